"""Annotations in a model file are claims: what the file computes is what its nodes compute, and nothing else.

An encoding rounds what it is on, wherever it came from. One that somebody wrote beside the nodes is believed where the
model, with it, answers to the probe inputs as the file does, at the tolerance of lossless passes. If it does not, what
is left are the encodings of constants that hold nothing but numbers of their grid, and then those in whose codes the
file holds them; the others are dropped, each with a word. A request to compute in a type is believed where encodings
that are believed bear it out; any other, above all for a shorter float type, is dropped: only the device could tell
what it changes.

What stands in QuantizeLinear and DequantizeLinear nodes is no claim: the file computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from graphpress.driver.config import RunConfig
from graphpress.errors import DataError, ModelError
from graphpress.ir import Model, Node, Refusal, Value, clone, constant, graphs, label, values_of
from graphpress.ir.encoding import (
    WEIGHT_ONLY,
    EncodedTensor,
    Encoding,
    compute_request,
    encoding_of,
    float_type,
    invalidation_of,
    override_use,
    overrides_of,
    read_encoding,
    request_compute,
    round_trip,
    set_encoding,
    set_float_type,
)
from graphpress.manager.prepare import prepare
from graphpress.manager.verification import Probe
from graphpress.ops import lookup
from graphpress.runtime import Session

_FIX = "quantize the model anew, or write its encodings as QuantizeLinear and DequantizeLinear nodes"


class StatedEncoding(NamedTuple):
    """An encoding that a file states.

    Args:
        where: the value that is to be rounded, or the node that reads it so.
        value: what is to be rounded.
        encoding: how; None for one that was lost.
        drop: takes it away.
    """

    where: Value | Node
    value: Value | None
    encoding: Encoding | None
    drop: Callable[[], None]


def settle_claims(original: Model, config: RunConfig, probe: Probe) -> list[Refusal]:
    """Drop what is not believed from the model as it was read, in place; what was dropped, with the reason.

    Args:
        original: as it is in the file.
        config: of the run: what the annotations do depends on the backend.
        probe: what the file answers.
    """
    refusals = []
    for may_stay in (_is_exact, _is_held, _is_nothing):
        claims = list(_claims(original))
        why = _difference(original, claims, config, probe) if claims else None
        if why is None:
            break
        for claim in claims:
            if not may_stay(claim):
                claim.drop()
                refusals.append(_refusal(claim, why))
    return [*refusals, *_drop_requests(original)]


def _claims(model: Model) -> Iterator[StatedEncoding]:
    for graph in graphs(model):
        for value in values_of(graph):
            if (encoding := encoding_of(value)) is not None or invalidation_of(value):
                yield StatedEncoding(value, value, encoding, partial(_forget, value))
        for node in graph:
            for index, override in overrides_of(node).items():
                if not isinstance(override, str):
                    yield StatedEncoding(node, node.inputs[index], override, partial(override_use, node, index, None))


def _forget(value: Value) -> None:
    """A constant that the file holds as codes is read in the encoding of the codes: that is what the file computes."""
    tensor = value.const_value
    own = tensor.encoding if isinstance(tensor, EncodedTensor) else None
    set_encoding(value, None if own == encoding_of(value) else own)


def _is_exact(claim: StatedEncoding) -> bool:
    """Whether it changes no number."""
    array = constant(claim.value)
    if array is None or claim.encoding is None:
        return False
    try:
        return _is_held(claim) or np.array_equal(round_trip(array, claim.encoding), array)
    except ModelError:  # its numbers are found at run time
        return False


def _is_held(claim: StatedEncoding) -> bool:
    """Whether it is that of the codes which the file holds."""
    tensor = None if claim.value is None else claim.value.const_value
    held = tensor.encoding if isinstance(tensor, EncodedTensor) else None
    return held is not None and claim.encoding is not None and held.grid == claim.encoding.grid


def _is_nothing(claim: StatedEncoding) -> bool:
    return False


def _difference(original: Model, claims: Sequence[StatedEncoding], config: RunConfig, probe: Probe) -> str | None:
    """How the model with its annotations answers otherwise than the file, in words, or None."""
    if probe.blind and not all(map(_is_held, claims)):
        return probe.blind
    model = clone(original)
    prepare(model, config.shapes)
    try:
        simulation = config.backend.prepare(model, config.target).simulation
        session = Session(simulation, threads=config.threads, made_up=True)
        return probe.difference_of(map(session, probe.feeds))
    except (DataError, ModelError) as error:
        return error.what


def _refusal(claim: StatedEncoding, why: str) -> Refusal:
    what = "the encoding that it lost" if claim.encoding is None else f"the encoding {claim.encoding.label} beside it"
    return Refusal(label(claim.where), f"{what} is not believed: with it, {why}", _FIX)


def _drop_requests(model: Model) -> list[Refusal]:
    """Drop requests of nodes that no encoding bears out."""
    refusals = []
    for node in (node for graph in graphs(model) for node in graph):
        compute, floats = compute_request(node), float_type(node)
        if compute is not None and not _is_borne_out(node, compute):
            request_compute(node, None)
            refusals.append(_request_refusal(node, compute))
        if floats is not None:
            set_float_type(node, None)
            if floats != compute:
                refusals.append(_request_refusal(node, floats))
    return refusals


def _is_borne_out(node: Node, request: str) -> bool:
    """Whether the node reads what it needs to compute as requested: two operands of that type, or any for weights
    and for what only moves values.
    """
    read = [encoding for index in range(len(node.inputs)) if (encoding := read_encoding(node, index)) is not None]
    if request == WEIGHT_ONLY:
        return bool(read)
    spec = lookup(node.op_type)
    needed = 1 if spec is not None and spec.quantization.moves_data else 2
    of_type = [encoding for encoding in read if encoding.dtype.removeprefix("u") == request.removeprefix("u")]
    return len(of_type) >= needed


def _request_refusal(node: Node, request: str) -> Refusal:
    why = f"the request for {request} beside it is not believed: the file computes in other numbers"
    return Refusal(label(node), why, "ask for it anew, with a pass or a recipe")
