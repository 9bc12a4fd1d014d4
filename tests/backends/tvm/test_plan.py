"""No two buffers that live at the same time overlap, and halos stay as they were filled."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.backends.tvm.kernels.map import Map
from graphpress.backends.tvm.kernels.plane import Halo, Plane
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.plan import ALIGNMENT, lifetimes, plan_memory
from graphpress.backends.tvm.program import NO_HALO, Buffer, Program, Step


@st.composite
def programs(draw) -> Program:
    """Steps that each read some earlier buffer and write a new one, of few sizes, with and without halos."""
    sizes = st.sampled_from([16, 32, 48])
    halos = st.sampled_from([NO_HALO, Halo(1, 1, 1, 1)])
    buffers = [Buffer(Plane(16, 4, draw(sizes), 16, draw(halos)), draw(st.sampled_from([0, 7])))]
    steps = []
    for _ in range(draw(st.integers(1, 12))):
        source = buffers[draw(st.integers(0, len(buffers) - 1))]
        result = Buffer(Plane(16, 4, draw(sizes), 16, draw(halos)), draw(st.sampled_from([0, 7])))
        steps.append(Step(Map(source.plane, Destination(result.plane), 16), {"source": source, "result": result}))
        buffers.append(result)
    return Program(steps=steps)


@given(programs())
def test_buffers_that_live_together_lie_apart(program):
    plan, lives = plan_memory(program), lifetimes(program)
    places = [(plan.offsets[buffer], plan.offsets[buffer] + buffer.bytes, buffer) for buffer in lives]
    for start, end, buffer in places:
        assert start % ALIGNMENT == 0
        assert end <= plan.bytes
        for other_start, other_end, other in places:
            if other is buffer or end <= other_start or other_end <= start:
                continue
            apart = lives[buffer].last < lives[other].first or lives[other].last < lives[buffer].first
            assert apart
            with_halo = NO_HALO not in (buffer.plane.halo, other.plane.halo)
            alike = (buffer.plane, buffer.fill) == (other.plane, other.fill)
            assert (with_halo and alike) or buffer.plane.halo == other.plane.halo == NO_HALO


def test_a_chain_takes_two_buffers():
    buffers = [Buffer(Plane(16, 4, 4, 16)) for _ in range(6)]
    steps = [Step(Map(a.plane, Destination(b.plane), 16), {"source": a, "result": b}) for a, b in pairwise(buffers)]
    assert plan_memory(Program(steps=steps)).bytes == 2 * buffers[0].bytes
