"""Changes of metadata, above all of what the compiler itself writes there."""

from __future__ import annotations

import json
from typing import Any

import onnx

from mutants.draft import Draft, Mutation, graphs_of

KEYS = (
    "graphpress.encoding.v1", "graphpress.encoding.v2", "graphpress.use.v1.0", "graphpress.use.v2.0",
    "graphpress.use.v2.1", "graphpress.use.v2.99", "graphpress.use.v2.x", "graphpress.stored.v2", "graphpress.codes.v2",
    "graphpress.compute.v1", "graphpress.compute", "graphpress.sparsity.v1", "graphpress.encoding.v3", "graphpress",
    "pkg.torch.onnx.name", "",
)  # fmt: skip
_NUMBERS: tuple[Any, ...] = (0, 1, -1, 0.5, 1e308, 2**70, True, None, "", "x", [], {}, [1, 2], {"a": 1}, "w", "int8")
_TEXTS = (
    "1", "null", "{}", "[]", '""', "true", "", "{", "nonsense", "NaN", '{"kind": null}', "[" * 5000, '{"a":' * 3000,
    "\x1b[2J", "float", "int8", "9" * 5000, '{"kind":"affine","kind":"cast"}', "\ud83d\ude00",
)  # fmt: skip


def plain_text(draft: Draft) -> str:
    """Text of any kind under any key."""
    place, key, text = _place(draft), draft.pick(KEYS), draft.pick(_TEXTS[:-1])
    place.metadata_props.add(key=key, value=text)
    return f"{key} = {text[:40]!r}"


def made_up(draft: Draft) -> str:
    """A text that is nearly an encoding."""
    place, key, facts = _place(draft), draft.pick(KEYS[:9]), _encoding(draft)
    place.metadata_props.add(key=key, value=json.dumps(facts))
    return f"{key} = {json.dumps(facts)[:200]}"


def changed(draft: Draft) -> str:
    """A text that was there, with a field fewer, more or changed."""
    held = [item for place in places(draft.model) for item in place.metadata_props]
    item = draft.pick(held)
    before = item.value
    try:
        facts = json.loads(before)
    except ValueError:
        facts = None
    if isinstance(facts, dict) and facts and draft.random.random() < 0.8:
        name = draft.pick(sorted(facts))
        match draft.random.randrange(3):
            case 0:
                del facts[name]
            case 1:
                facts[name] = draft.pick(_NUMBERS)
            case _:
                facts[draft.pick(("axis", "block", "scale", "zero_point", "dtype", "new"))] = draft.pick(_NUMBERS)
        item.value = json.dumps(facts)
    elif draft.random.random() < 0.5:
        item.value = draft.pick(_TEXTS[:-1])
    else:
        item.key = draft.pick(KEYS)
    return f"{item.key} = {item.value[:80]!r}, was {before[:80]!r}"


def moved(draft: Draft) -> str:
    """Metadata of one thing at another."""
    place = draft.pick([place for place in places(draft.model) if place.metadata_props])
    held = list(place.metadata_props)  # the other place may be the same
    _place(draft).metadata_props.extend(held)
    return f"{held[0].key} elsewhere"


def _encoding(draft: Draft) -> dict[str, Any]:
    kind = draft.pick(("affine", "quantized", "codebook", "cast", "unheard", None, 1))
    facts: dict[str, Any] = {"kind": kind}
    dtypes = ("int8", "uint8", "int4", "uint4", "int2", "int32", "float16", "bfloat16", "float8e4m3fn", "string", 5)
    if draft.random.random() < 0.95:
        facts["dtype"] = draft.pick(dtypes)
    names = [*draft.values()[:20], 0.05, [0.1] * 3, 1e-300, 0, "nowhere"]
    for name in ("scale", "zero_point", "table"):
        if draft.random.random() < 0.6:
            facts[name] = draft.pick(names)
    for name in ("axis", "block"):
        if draft.random.random() < 0.4:
            facts[name] = draft.pick((0, 1, 2, 4, 32, -1, draft.number()))
    for name in ("imported", "derived", "symmetric"):
        if draft.random.random() < 0.1:
            facts[name] = draft.pick((True, False, 1))
    return facts


def places(model: onnx.ModelProto) -> list[Any]:
    """Whatever holds metadata."""
    inner = [
        item
        for graph in graphs_of(model.graph)
        for item in (graph, *graph.value_info, *graph.input, *graph.output, *graph.initializer, *graph.node)
    ]
    return [model, *inner, *model.functions]


def _place(draft: Draft) -> Any:
    """Of a value as often as of anything else."""
    if draft.random.random() < 0.5:
        return draft.info()
    return draft.pick(places(draft.model))


MUTATIONS: tuple[Mutation, ...] = (plain_text, made_up, made_up, changed, changed, moved)
