"""Where encodings are attached: to values and to their uses, not as extra nodes.

A value has a default encoding, which every reader sees; a *use* (node, input index) may override it, with another
encoding or with plain float. The graph stays a float graph: passes that fuse, prune or search need not know.

In memory an annotation is an immutable object attached to its value or node, which clones share; nothing is parsed or
copied to read it. Files hold annotations as text and tensors (``graphpress.ir.encoding.saving``). What is
text anyway is in ``metadata_props``, under versioned keys:

    value  graphpress.output.v1          "float" when a graph output is read as float in spite of its encoding
    value  graphpress.invalidated.v1     why the value lost its encoding
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from graphpress.ir.encoding.kinds import Encoding
from graphpress.ir.meta import attached, forget_object, forget_text, texts
from graphpress.ir.types import Node, Value

PREFIX: Final = "graphpress."
OUTPUT_KEY: Final = "graphpress.output.v1"
INVALIDATED_KEY: Final = "graphpress.invalidated.v1"
FLOAT: Final = "float"
Override = Literal["float"]

_ENCODING: Final = "graphpress.encoding"
_USES: Final = "graphpress.uses"
_NO_USES: Final[Mapping[int, Encoding | Override]] = MappingProxyType({})


# -- values ---------------------------------------------------------------------------------------------------


def encoding_of(value: Value) -> Encoding | None:
    """The default encoding of a value, or None where it is plain float."""
    encoding: Encoding | None = attached(value).get(_ENCODING)
    return encoding


def set_encoding(value: Value, encoding: Encoding | None) -> None:
    """Annotate a value, or clear its annotation."""
    forget_text(value, INVALIDATED_KEY)
    if encoding is None:
        forget_object(value, _ENCODING)
    else:
        value.meta[_ENCODING] = encoding


def invalidate_encoding(value: Value, reason: str) -> None:
    """Drop the encodings of a value that changed, also those of its uses; materialization reports it."""
    stale = forget_object(value, _ENCODING)
    for use in value.uses():
        if override_of(use.node, use.idx) not in (None, FLOAT):
            override_use(use.node, use.idx, None)
            stale = True
    if stale:
        value.metadata_props[INVALIDATED_KEY] = reason


def invalidation_of(value: Value) -> str | None:
    """Why the value lost its encoding, if it did."""
    return texts(value).get(INVALIDATED_KEY)


# -- uses -----------------------------------------------------------------------------------------------------


def read_encoding(node: Node, index: int) -> Encoding | None:
    """The encoding in which ``node`` reads its input at ``index``: the override of the use, else the default."""
    value = node.inputs[index]
    if value is None:
        return None
    override = overrides_of(node).get(index)
    if override is None:
        return encoding_of(value)
    return None if isinstance(override, str) else override


def overrides_of(node: Node) -> Mapping[int, Encoding | Override]:
    """The overrides of the node's inputs, by index; read-only."""
    overrides: Mapping[int, Encoding | Override] = attached(node).get(_USES, _NO_USES)
    return overrides


def override_of(node: Node, index: int) -> Encoding | Override | None:
    """The override of one input, or None where its default holds."""
    return overrides_of(node).get(index)


def override_use(node: Node, index: int, encoding: Encoding | Override | None) -> None:
    """Let one use read another encoding, or float; None removes the override."""
    overrides = {place: override for place, override in overrides_of(node).items() if place != index}
    if encoding is not None:
        overrides[index] = encoding
    if overrides:
        node.meta[_USES] = MappingProxyType(overrides)  # a new one: clones share the old one
    else:
        forget_object(node, _USES)


def is_overridden(value: Value) -> bool:
    """Whether a reader overrides the encoding in which it reads the value."""
    return any(override_of(use.node, use.idx) is not None for use in value.uses())


def is_encoded(value: Value) -> bool:
    """Whether anybody reads the value in an encoding: it is rounded there, so what made it cannot be moved past it."""
    return encoding_of(value) is not None or any(read_encoding(use.node, use.idx) is not None for use in value.uses())


# -- graph outputs --------------------------------------------------------------------------------------------


def output_encoding(value: Value) -> Encoding | None:
    """The encoding in which the world outside reads a graph output."""
    return None if texts(value).get(OUTPUT_KEY) == FLOAT else encoding_of(value)


def override_output(value: Value, encoding: Override | None) -> None:
    """Let the world outside read a graph output as float; None removes the override."""
    if encoding is None:
        forget_text(value, OUTPUT_KEY)
    else:
        value.metadata_props[OUTPUT_KEY] = encoding


def hand_over_encoding(old: Value, new: Value) -> None:
    """Before ``new`` takes the place of ``old``: what read ``old`` in its encoding will read ``new`` in it.

    Other readers of ``new`` keep what they read, by an override of their use. Where ``old`` is plain float, there is
    nothing to hand over.
    """
    if reason := invalidation_of(old):
        new.metadata_props[INVALIDATED_KEY] = reason
    encoding, own = encoding_of(old), encoding_of(new)
    if encoding is None or encoding == own:
        return
    if new.is_graph_output() and own is not None:
        for use in old.uses():
            _keep_reading(use.node, use.idx, encoding)
        return
    for use in new.uses():
        _keep_reading(use.node, use.idx, FLOAT if own is None else own)
    if new.is_graph_output() or (old.is_graph_output() and OUTPUT_KEY in texts(old)):
        override_output(new, FLOAT)
    set_encoding(new, encoding)


def _keep_reading(node: Node, index: int, encoding: Encoding | Override) -> None:
    if override_of(node, index) is None:
        override_use(node, index, encoding)


# -- all annotations of a node or value -----------------------------------------------------------------------


def annotations_of(item: Node | Value) -> frozenset[tuple[str, Hashable]]:
    """Everything of ours on a node or value, by key: equal where two of them are annotated alike."""
    return frozenset((*texts_of(item), *_objects(item)))


def is_annotated(item: Node | Value) -> bool:
    """Whether the node has overrides or requests, or the value an encoding or other annotations."""
    objects = attached(item)
    return _ENCODING in objects or _USES in objects or any(key.startswith(PREFIX) for key in texts(item))


def copy_annotations(source: Value, target: Value) -> None:
    """Annotate another value in the same way, with everything that is written beside the first."""
    if written := texts(source):
        target.metadata_props.update(written)
    if (encoding := encoding_of(source)) is not None:
        target.meta[_ENCODING] = encoding


def clear_annotations(item: Node | Value) -> None:
    """Remove everything of ours from a node or value."""
    for key, _ in texts_of(item):
        forget_text(item, key)
    for key in (_ENCODING, _USES):
        forget_object(item, key)


def texts_of(item: Node | Value) -> list[tuple[str, str]]:
    """What is written of ours beside a node or value, by key."""
    return [entry for entry in texts(item).items() if entry[0].startswith(PREFIX)]


def _objects(item: Node | Value) -> list[tuple[str, Encoding | Override]]:
    if isinstance(item, Node):
        return [(f"{_USES}.{index}", override) for index, override in overrides_of(item).items()]
    encoding = encoding_of(item)
    return [] if encoding is None else [(_ENCODING, encoding)]
