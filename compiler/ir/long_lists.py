"""Long lists in attributes, such as the nodes of a tree ensemble: they stay as the message holds them.

onnx_ir makes a Python object of every element, twice; a message holds a number in at most eight bytes. Before it reads
a message each long list is taken out, and a token left in its place; afterwards it comes back as an attribute that
reads the list where it lies.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import onnx
import onnx_ir
from onnx import AttributeProto

from graphpress.ir.import_fixups import bodies
from graphpress.ir.types import AttributeType, Model
from graphpress.ir.values import graphs

LONG = 4096
"""Lists of more elements are long."""
_FIELDS = {AttributeProto.INTS: "ints", AttributeProto.FLOATS: "floats", AttributeProto.STRINGS: "strings"}

LongLists = dict[str, AttributeProto]
"""The attributes that were taken out, by the token in their place."""


class StoredList(onnx_ir.Attr):
    """An attribute whose elements stay in a message, which must not change any more."""

    def __init__(self, message: AttributeProto) -> None:
        super().__init__(message.name, AttributeType(message.type), None, doc_string=message.doc_string or None)
        self._message = message

    @property
    def value(self) -> Sequence[Any]:
        """The elements; texts are made when they are asked for."""
        elements = elements_of(self._message)
        is_text = self._message.type == AttributeProto.STRINGS
        return tuple(text.decode() for text in elements) if is_text else elements


def elements_of(attribute: AttributeProto) -> Sequence[Any]:
    """The list of an attribute; an empty one for what holds another kind of value."""
    field = _FIELDS.get(attribute.type)
    return () if field is None else getattr(attribute, field)


def take_out(proto: onnx.ModelProto) -> LongLists:
    """Take the long lists out of a message, in place.

    Raises:
        UnicodeDecodeError: a text in one is none.
    """
    taken: LongLists = {}
    for body in bodies(proto):
        for node in body.node:
            for attribute in node.attribute:
                if len(elements_of(attribute)) > LONG:
                    token = secrets.token_hex(16)
                    taken[token] = _exchange(attribute, token)
    return taken


def _exchange(attribute: AttributeProto, token: str) -> AttributeProto:
    """Leave a token in an attribute; what it was before."""
    for text in attribute.strings:
        text.decode()
    before = AttributeProto()
    before.CopyFrom(attribute)
    attribute.ClearField(_FIELDS[attribute.type])
    attribute.type, attribute.s = AttributeProto.STRING, token.encode()
    return before


def bring_back(model: Model, taken: LongLists) -> None:
    """Put the lists back where their tokens are."""
    for graph in graphs(model) if taken else ():
        for node in graph:
            for attribute in list(node.attributes.values()):
                if attribute.type == AttributeType.STRING and (stored := taken.get(attribute.value)) is not None:
                    node.attributes.add(StoredList(stored))
