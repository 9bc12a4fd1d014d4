"""Three-way merge of ONNX messages: what a tool cannot hold comes back beside what it changed.

``ours`` went to the tool, ``theirs`` came back changed, and ``base`` is what the tool makes of ``ours`` when nothing
is changed. Field by field:

    theirs = base   the tool did nothing here: ours stands, with what the tool would have dropped
    otherwise       theirs stands; messages are merged within, lists element by element where elements have names

So whatever lies between ours and base, the tool's own blindness, is no change. An element of ours that base lacks was
dropped by the tool and comes back; one that base has and theirs lacks was removed, and stays away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeVar

import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]

M = TypeVar("M", bound=Message)


def merge(ours: M, base: M, theirs: M) -> M:
    """The message with their changes and everything of ours that they could not see."""
    if theirs == base:
        return ours
    if isinstance(theirs, onnx.NodeProto) and _kind(theirs) != _kind(base):
        return theirs  # another operator under an old name
    merged: M = type(theirs)()
    for field in theirs.DESCRIPTOR.fields:
        _merge_field(merged, field, ours, base, theirs)
    return merged


def _kind(node: onnx.NodeProto) -> tuple[str, str, str]:
    return node.domain, node.op_type, node.overload


def _merge_field(merged: Message, field: FieldDescriptor, ours: Message, base: Message, theirs: Message) -> None:
    name = field.name
    if field.is_repeated:
        own, was, now = (list(getattr(message, name)) for message in (ours, base, theirs))
        chosen = own if now == was else _merge_lists(own, was, now) if field.message_type is not None else now
        getattr(merged, name).extend(chosen)
    elif _present(base, field) == _present(theirs, field) and getattr(base, name) == getattr(theirs, name):
        _copy(merged, field, ours)
    elif field.message_type is not None and all(_present(message, field) for message in (ours, base, theirs)):
        getattr(merged, name).CopyFrom(merge(*(getattr(message, name) for message in (ours, base, theirs))))
    else:
        _copy(merged, field, theirs)


def _present(message: Message, field: FieldDescriptor) -> bool:
    return bool(message.HasField(field.name)) if field.has_presence else True


def _copy(target: Message, field: FieldDescriptor, source: Message) -> None:
    if not _present(source, field):
        return
    if field.message_type is not None:
        getattr(target, field.name).CopyFrom(getattr(source, field.name))
    else:
        setattr(target, field.name, getattr(source, field.name))


def _merge_lists(ours: Sequence[Message], base: Sequence[Message], theirs: Sequence[Message]) -> list[Message]:
    """Their elements in their order, merged with those of the same key; behind them what the tool had dropped."""
    own, was = keyed(ours), keyed(base)
    now = keyed(theirs)
    kept = [
        merge(own[key], was[key], element) if key in own and key in was else element for key, element in now.items()
    ]
    return kept + [element for key, element in own.items() if key not in was and key not in now]


def keyed(items: Iterable[Message]) -> dict[Hashable, Any]:
    """The elements of a list by what identifies them: a name, or the values that a nameless node computes."""
    listed = list(items)
    names = Counter(item.name for item in listed if isinstance(item, onnx.NodeProto))
    by_key: dict[Hashable, Any] = {}
    for index, item in enumerate(listed):
        key = _key(item, names)
        by_key[index if key is None or key in by_key else key] = item
    return by_key


def _key(element: Message, node_names: Counter[str]) -> Hashable:
    if isinstance(element, onnx.NodeProto):
        return element.name if element.name and node_names[element.name] == 1 else (tuple(element.output) or None)
    if isinstance(element, onnx.FunctionProto):
        return element.domain, element.name, element.overload
    if isinstance(element, onnx.OperatorSetIdProto):
        return (element.domain,)
    if isinstance(element, onnx.StringStringEntryProto):
        return element.key
    if isinstance(element, onnx.TensorAnnotation):
        return element.tensor_name
    if isinstance(element, onnx.ValueInfoProto | onnx.TensorProto | onnx.AttributeProto | onnx.GraphProto):
        return element.name
    return None
