"""Steps that are computed together by stripes of rows: equal results, less memory, and only where it is worth while."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import graph

from graphpress.backends.tvm.artifact import LibraryOptions, write_library
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.row_work import RowWork, row_work
from graphpress.backends.tvm.kernels.window import RowWindow
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.plan import lifetimes, plan_memory
from graphpress.backends.tvm.program import Program, Stripes, StripeStage
from graphpress.backends.tvm.stripes import in_stripes, rows_of_tile, with_room
from graphpress.cache import ContentCache
from graphpress.ir import Model, clone
from graphpress.manager.contract import Context
from graphpress.passes.quantize.quantize import Quantize
from graphpress.runtime import CompiledModel
from graphpress.targets import load_target

INVERTED = """
    a = Conv <kernel_shape=[1, 1]> (x, expand)  b = Clip(a, zero, six)
    c = Conv <group=24, {window}> (b, depthwise)  d = Relu(c)
    y = Conv <kernel_shape=[1, 1]> (d, project)
"""
"""An inverted residual, as MobileNets have it."""
WINDOWS = {
    "stride 1": (3, "pads=[1, 1, 1, 1]", "17, 17"),
    "stride 2": (3, "pads=[0, 1, 1, 0], strides=[2, 2]", "8, 8"),
    "dilated": (3, "pads=[2, 2, 2, 2], dilations=[2, 2]", "17, 17"),
    "large": (5, "pads=[4, 2, 1, 2], strides=[3, 1]", "6, 17"),
    "gaps": (1, "strides=[2, 2]", "9, 9"),
}
"""Taps, how they move over 17 by 17 pixels, and how many come of it."""


def weights(**shapes: Sequence[int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    numbers = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {**numbers, "zero": np.float32(0).reshape(()), "six": np.float32(6).reshape(())}


def inverted_residual(taps: int, moves: str, after: str, size: int = 17, images: int = 1) -> Model:
    text = f"(float[{images}, 8, {size}, {size}] x) => (float[{images}, 8, {after}] y) {{{INVERTED}}}"
    window = f"kernel_shape=[{taps}, {taps}], {moves}"
    shapes = {"expand": (24, 8, 1, 1), "depthwise": (24, 1, taps, taps), "project": (8, 24, 1, 1)}
    return graph(text.replace("{window}", window), **weights(**shapes))


def pools() -> Model:
    text = """(float[1, 3, 20, 18] x) => (float[1, 20, 3, 8] y) {
        a = Conv <kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]> (x, first)
        b = MaxPool <kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]> (a)
        c = Conv <kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 1]> (b, second)
        d = AveragePool <kernel_shape=[2, 3], pads=[1, 1, 0, 1]> (c)
        y = Conv <kernel_shape=[2, 2]> (d, third)
    }"""
    return graph(text, **weights(first=(16, 3, 3, 3), second=(20, 16, 3, 3), third=(20, 20, 2, 2)))


def chains(program: Program, isa) -> list[list[StripeStage]]:
    """All runs of steps that could be stages of each other, whatever it saves."""
    found: list[list[StripeStage]] = [[]]
    for step in program.steps:
        work = row_work(step.kernel, isa)
        if work is None or (found[-1] and found[-1][-1].step.result is not step.operands["source"]):
            found.append([])
        if work is not None:
            found[-1].append(StripeStage(step, work))
    return [stages for stages in found if len(stages) > 1]


def outputs(program: Program, isa, folder, cache, feed, threads) -> np.ndarray:
    write_library(program, isa, folder, cache, LibraryOptions(batched=False))
    return np.concatenate([CompiledModel(folder, each).run(feed)["y"] for each in threads])


def assert_the_same(model: Model, isa, folder, stages: int) -> None:
    """Bit for bit, on one thread and on several."""
    program, cache, threads = lower(model, isa), ContentCache(folder / "cache"), (1, 2, 3)
    shape = [int(size) for size in model.graph.inputs[0].shape]
    feed = {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    for name in ("whole", "stripes"):
        (folder / name).mkdir()
    expected = outputs(program, isa, folder / "whole", cache, feed, threads)
    program.stripes = [Stripes(with_room(chain)) for chain in chains(program, isa)]
    assert sum(len(stripes.stages) for stripes in program.stripes) == stages
    np.testing.assert_array_equal(outputs(program, isa, folder / "stripes", cache, feed, threads), expected)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_an_inverted_residual_is_the_same_by_stripes(newest, tmp_path, window):
    assert_the_same(inverted_residual(*window), newest, tmp_path, 3)


def test_images_are_apart(newest, tmp_path):
    assert_the_same(inverted_residual(3, "pads=[1, 1, 1, 1]", "7, 7", size=7, images=3), newest, tmp_path, 3)


def test_convolutions_and_pools_are_the_same_by_stripes(newest, tmp_path):
    assert_the_same(pools(), newest, tmp_path, 5)


def test_padding_of_codes_is_their_zero_point(newest, tmp_path):
    text = """(float[1, 8, 13, 13] x) => (float[1, 8, 13, 13] y) {
        a = Conv <kernel_shape=[1, 1]> (x, expand)
        b = Conv <group=24, kernel_shape=[3, 3], pads=[1, 1, 1, 1]> (a, depthwise)
        y = Conv <kernel_shape=[1, 1]> (b, project)
    }"""
    model = graph(text, **weights(expand=(24, 8, 1, 1), depthwise=(24, 1, 3, 3), project=(8, 24, 1, 1)))
    feed = {"x": np.random.default_rng(2).normal(size=(1, 8, 13, 13)).astype(np.float32)}
    quantized = clone(model)
    Quantize().run(quantized, Context(target=load_target("cpu"), original=model, calibration=[feed]))
    assert_the_same(quantized, newest, tmp_path, 3)


# -- the rows of a tile -----------------------------------------------------------------------------------------------


@st.composite
def works(draw) -> list[RowWork]:
    """Stages of any windows, of which each reads the one before."""
    heights = [draw(st.integers(1, 20)) for _ in range(draw(st.integers(2, 4)))]
    planes = [Plane(16, height, 4, 16) for height in heights]
    windows = [RowWindow(draw(st.integers(1, 3)), draw(st.integers(0, 2)), draw(st.integers(1, 4))) for _ in planes]
    return [
        RowWork(source, result, window, 1, draw(st.integers(1, 3)))
        for source, result, window in zip([planes[0], *planes], planes, windows, strict=False)
    ]


@given(works(), st.integers(0, 19))
def test_all_rows_that_a_tile_reads_are_there(stages, start):
    """Whoever begins somewhere and goes on has each row that a window reaches, computed once."""
    computed: list[list[int]] = [[] for _ in stages]
    done = None
    for tile in range(start % stages[-1].tiles, stages[-1].tiles):
        rows = rows_of_tile(stages, tile, done)
        for number, each in enumerate(rows):
            computed[number].extend(range(each.first, each.last))
            if number:
                stride, before, span = stages[number].window
                wanted = {y * stride - before + tap for y in range(each.first, each.last) for tap in range(span)}
                inside = {row for row in wanted if 0 <= row < stages[number - 1].result.height}
                assert inside <= set(computed[number - 1])
        done = [each.last for each in rows]
    assert all(len(set(rows)) == len(rows) for rows in computed)
    assert computed[-1][-1] == stages[-1].result.height - 1


# -- what is worth while ----------------------------------------------------------------------------------------------


def large(text: str, **more: Sequence[int]) -> Model:
    """Values of 112 by 112 pixels do not fit a core's cache."""
    return graph(text, **weights(expand=(96, 16, 1, 1), depthwise=(96, 1, 3, 3), project=(24, 96, 1, 1), **more))


LARGE = """(float[1, 16, 112, 112] x) => (float[1, 24, 112, 112] y{more}) {{
    a = Conv <kernel_shape=[1, 1]> (x, expand)
    b = Conv <group=96, kernel_shape=[3, 3], pads=[1, 1, 1, 1]> (a, depthwise)
    y = Conv <kernel_shape=[1, 1]> (b, project)
}}"""


def striped(model: Model, isa, threads: int = 1) -> list[int]:
    """How many stages there are."""
    return [len(stripes.stages) for stripes in lower(model, isa, threads).stripes]


def test_what_does_not_fit_the_caches_is_computed_by_stripes(newest):
    assert striped(large(LARGE.format(more="")), newest) == [3]
    assert (
        striped(
            large(
                LARGE.format(more=""),
            ),
            newest,
            threads=32,
        )
        == []
    )


def test_what_fits_is_not(newest):
    assert striped(inverted_residual(3, "pads=[1, 1, 1, 1]", "28, 28", size=28), newest) == []


def test_a_value_that_somebody_else_reads_is_whole(newest):
    program = lower(large(LARGE.format(more=", float[1, 96, 112, 112] a")), newest)
    assert [step.nodes for stripes in program.stripes for step in stripes.steps[:1]] == [program.steps[1].nodes]


def test_the_results_of_stripes_take_no_room_in_the_arena(newest):
    program = lower(large(LARGE.format(more="")), newest)
    plan, kept = plan_memory(program), set(program.stripes[0].kept)
    assert kept
    assert not kept & set(lifetimes(program))
    assert plan.scratch_bytes == sum(stage.kept_bytes for stage in program.stripes[0].stages)
    whole = plan_memory(Program(steps=program.steps))
    assert plan.bytes + plan.scratch_bytes < whole.bytes / 2


def test_steps_that_are_computed_together_share_a_place_in_the_schedule(newest):
    program = lower(large(LARGE.format(more="")), newest)
    assert [len(scheduled.steps) for scheduled in program.schedule()] == [1, 3, 1]
    assert len(program.steps) == 5


def test_more_rows_computed_twice_than_are_saved_are_not_worth_while(newest):
    """Many threads with few rows each, of a product with much arithmetic."""
    text = """(float[1, 64, 64, 64] x) => (float[1, 64, 64, 64] y) {
        a = Conv <kernel_shape=[5, 5], pads=[2, 2, 2, 2]> (x, first)
        y = Conv <kernel_shape=[5, 5], pads=[2, 2, 2, 2]> (a, second)
    }"""
    model = graph(text, **weights(first=(64, 64, 5, 5), second=(64, 64, 5, 5)))
    assert in_stripes(lower(model, newest), newest, threads=2) == []
