"""Sizes for the dimensions that a model leaves free, where no data and nobody says: candidates, the likeliest first.

    batch       first axes, and sizes named like one          1
    channels    the second axis of images, where it is free   3
    image       the plane of images: inputs of rank four      224, then smaller ones, those of text lines and detectors
    sound       the second axis of floats in two dimensions   128, then shorter and much longer ones
    length      all else: tokens, frames, states              128, then shorter and longer ones

One name is one size, whichever inputs have it; ``?`` is no name. First, all axes of a kind have one size, then each its
own, in the order of how far down its list it is. Which candidate suits only the model can tell: nets with strides,
windows and tables of positions take some sizes and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from graphpress.data.inputs import Dims, ModelInput, describe, is_floating, matches
from graphpress.data.preprocess import channel_axis
from graphpress.errors import UsageError, did_you_mean

BATCH = 1
CHANNELS = 3
SIZES = {
    "image": (224, 64, 32, 48, 320, 640, 512, 16, 8),
    "sound": (128, 16, 512, 1024, 4096, 16000, 256, 576, 1),
    "length": (128, 16, 512, 1, 8, 256, 1024, 64, 32, 2, 3),
}
MOST_CANDIDATES = 120
_NAMELESS = ("", "?")
_SMALL = (1, 3, 4)
_RANK_OF_IMAGES = 4


def candidate_shapes(
    inputs: Sequence[ModelInput], given: Mapping[str, tuple[int, ...]] | None = None
) -> Iterator[dict[str, tuple[int, ...]]]:
    """Static shapes of all inputs, the likeliest first; at least one, each once.

    Args:
        inputs: the model's inputs; one of unknown rank is a scalar.
        given: shapes of some of them; a symbol that one of them settles holds for the others too.
    """
    given = given or {}
    settled = dict(pair for item in inputs for pair in sizes_by_name(item.dims, given.get(item.name, ())))
    kinds = {key: kind for key, kind in _kinds(inputs, given).items() if key not in settled}
    seen = set()
    for sizes in islice(_assignments(kinds), MOST_CANDIDATES):
        known = {**sizes, **settled}
        shapes = {item.name: given[item.name] if item.name in given else _shape(item, known) for item in inputs}
        if (key := tuple(shapes.values())) not in seen:
            seen.add(key)
            yield shapes


def check_given(inputs: Sequence[ModelInput], given: Mapping[str, tuple[int, ...]]) -> None:
    """Whether shapes that a user gives go with the model and with one another.

    Raises:
        UsageError: a shape is for no input, or contradicts the model or another shape.
    """
    names = [item.name for item in inputs]
    symbols: dict[str, int] = {}
    for name, shape in given.items():
        if name not in names:
            raise UsageError(f"the model has no input {name!r}", where="--input-shape", fix=did_you_mean(name, names))
        dims = inputs[names.index(name)].dims
        if not matches(shape, dims):
            raise UsageError(
                f"shape {list(shape)} contradicts the model's {describe(dims)}", where=f"--input-shape {name}"
            )
        for key, extent in sizes_by_name(dims, shape):
            if symbols.setdefault(key, extent) != extent:
                raise UsageError(f"{key} is both {symbols[key]} and {extent}", where=f"--input-shape {name}")


def sizes_by_name(dims: Dims, shape: Sequence[int]) -> Iterator[tuple[str, int]]:
    """The named free sizes of an input, and what they are in this shape."""
    for dim, extent in zip(dims or (), shape, strict=False):
        if isinstance(dim, str) and dim not in _NAMELESS:
            yield dim, extent


def _kinds(inputs: Sequence[ModelInput], given: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """The kind of each free size, by key; one that occurs in several places is the least particular of its kinds."""
    order = ("batch", "channels", "length", "sound", "image")
    kinds: dict[str, str] = {}
    for item in inputs:
        for axis, dim in enumerate(item.dims or ()):
            if not isinstance(dim, int) and item.name not in given:
                key, kind = _key(item.name, axis, dim), _kind(item, axis)
                kinds[key] = min(kind, kinds.get(key, kind), key=order.index)
    return kinds


def _kind(item: ModelInput, axis: int) -> str:
    dims = item.dims or ()
    if axis == 0 or "batch" in str(dims[axis]).lower():
        return "batch"
    if len(dims) != _RANK_OF_IMAGES:
        return "sound" if len(dims) == 2 and is_floating(item.dtype) else "length"
    channels = channel_axis(dims)
    if axis == channels:
        return "channels"
    plane = [dim for at, dim in enumerate(dims) if at not in (0, channels)]
    is_image = dims[channels] in _SMALL or not any(isinstance(dim, int) for dim in plane)
    return "image" if is_image else "length"


def _key(name: str, axis: int, dim: int | str | None) -> str:
    """What names a free size: its symbol, else its place."""
    return str(dim) if dim is not None and dim not in _NAMELESS else f"{name} axis {axis}"


def _assignments(kinds: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """Sizes by key: first alike by kind, then each for itself."""
    fixed = {"batch": BATCH, "channels": CHANNELS}
    base = {key: fixed[kind] for key, kind in kinds.items() if kind in fixed}
    free = [key for key, kind in kinds.items() if kind in SIZES]
    present = [kind for kind in SIZES if kind in kinds.values()]
    for places in islice(_by_depth([len(SIZES[kind]) for kind in present]), MOST_CANDIDATES // 2):
        size = {kind: SIZES[kind][place] for kind, place in zip(present, places, strict=True)}
        yield base | {key: size[kinds[key]] for key in free}
    for places in _by_depth([len(SIZES[kinds[key]]) for key in free]):
        yield base | {key: SIZES[kinds[key]][place] for key, place in zip(free, places, strict=True)}


def _by_depth(lengths: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Places in lists of these lengths, those with the least sum first.

    >>> list(_by_depth([2, 2]))
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    for depth in range(sum(length - 1 for length in lengths) + 1):
        yield from _places(lengths, depth)


def _places(lengths: Sequence[int], depth: int) -> Iterator[tuple[int, ...]]:
    if not lengths:
        if depth == 0:
            yield ()
        return
    for place in range(min(lengths[0] - 1, depth) + 1):
        yield from ((place, *rest) for rest in _places(lengths[1:], depth - place))


def _shape(item: ModelInput, known: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(
        dim if isinstance(dim, int) else known[_key(item.name, at, dim)] for at, dim in enumerate(item.dims or ())
    )
