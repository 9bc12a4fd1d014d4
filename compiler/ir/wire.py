"""Where weights lie in the bytes of a model: messages are taken apart and put together without them.

A protobuf message is a sequence of fields, each a tag (number and wire type) and a value; a value of wire type 2 is a
length and so many bytes, which may be a message again:

    model: … graph: … initializer: … raw_data (the weights) …

To leave a value out, or to put one in, is to copy the other bytes and to write the lengths around it anew. What a file
holds otherwise stays byte for byte, known or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from graphpress.ir.types import TensorProtocol

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR = "model", "graph", "node", "attribute", "tensor"
_WITHIN = {
    _MODEL: {7: _GRAPH},
    _GRAPH: {1: _NODE, 5: _TENSOR},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {6: _GRAPH, 11: _GRAPH},
    _TENSOR: {},
}
"""Of each kind of message on the way from a model to its initializers, which of its fields (onnx.proto) lead there."""
_LISTS = (7, 8, 9)
"""Fields of an attribute that hold numbers or texts, one field an element: such an attribute holds no tensor."""
_RAW_DATA = 9
_PLACES = (13, 14)
"""Fields of a tensor that say where else its contents lie."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10
MOST_LEVELS = 100
"""Of messages in messages, as in protobuf."""
MOST_FIELDS = 2_000_000
"""A message of more is not searched: it takes long, and what holds so many has no large weights to speak of."""


class WireError(ValueError):
    """The bytes are no sequence of fields."""


class Bytes(Protocol):
    """Bytes, or a file that is read where it is looked at."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True)
class Span:
    """Bytes by their place.

    Args:
        start: where they begin.
        size: how many they are.
    """

    start: int
    size: int


class _Field(NamedTuple):
    number: int
    wire_type: int
    start: int
    value: int
    end: int


@dataclass(frozen=True)
class Insert:
    """The contents of a tensor, which are put in when the message is written.

    Args:
        tensor: of a type that messages hold as bytes.
    """

    tensor: TensorProtocol

    @property
    def size(self) -> int:
        """How many bytes they are."""
        return int(self.tensor.nbytes)


Piece = Span | Insert | bytes
"""A part of a message: of the bytes that were taken apart, to be put in, or made anew."""

Replace = Callable[[Span], "Insert | bytes | None"]
"""For the contents of a weight: what is put in their place, or fields that say where they are; None to leave them."""


def rewrite(data: Bytes, least: int, replace: Replace) -> list[Piece]:
    """The pieces of a model, the contents of its weights replaced.

    Args:
        data: the model.
        least: contents shorter than this stay as they are, unseen: what is shorter is not even looked into.
        replace: says what stands in the place of the contents of a weight.

    Raises:
        WireError: it is no message, or one that is not worth the search.
    """
    return _Rewriter(data, least, replace).message(Span(0, len(data)), _MODEL, MOST_LEVELS)


def size_of(pieces: Sequence[Piece]) -> int:
    """How many bytes they are together."""
    return sum(len(piece) if isinstance(piece, bytes) else piece.size for piece in pieces)


def length_field(number: int, value: bytes) -> bytes:
    """A field that holds bytes."""
    return _varint(number << 3 | _LENGTH) + _varint(len(value)) + value


def varint_field(number: int, value: int) -> bytes:
    """A field that holds an integer, not negative."""
    return _varint(number << 3 | _VARINT) + _varint(value)


@dataclass
class _Rewriter:
    data: Bytes
    least: int
    replace: Replace
    fields_left: int = MOST_FIELDS

    def message(self, span: Span, kind: str, levels: int) -> list[Piece]:
        """The pieces of a message of this kind, which may hold so many levels of messages."""
        pieces: list[Piece] = []
        for field in self._fields(span):
            if kind == _ATTRIBUTE and field.number in _LISTS:
                return [span]
            inner = _WITHIN[kind].get(field.number)
            contents = Span(field.value, field.end - field.value)
            if field.wire_type != _LENGTH or inner is None or contents.size < self.least:
                _append(pieces, Span(field.start, field.end - field.start))
                continue
            if not levels:
                raise WireError("messages in messages without end")
            changed = self._tensor(contents) if inner == _TENSOR else self.message(contents, inner, levels - 1)
            pieces += [*_header(field, size_of(changed)), *changed]
        return pieces

    def _tensor(self, span: Span) -> list[Piece]:
        """The pieces of a tensor; one that holds its contents twice, or somewhere else, stays as it is."""
        raw = None
        for field in self._fields(span):
            if field.number in _PLACES or (field.number == _RAW_DATA and (raw or field.wire_type != _LENGTH)):
                return [span]
            raw = field if field.number == _RAW_DATA else raw
        if raw is None or raw.end - raw.value < self.least:
            return [span]
        replacement = self.replace(Span(raw.value, raw.end - raw.value))
        if replacement is None:
            return [span]
        before, behind = Span(span.start, raw.start - span.start), Span(raw.end, span.start + span.size - raw.end)
        if isinstance(replacement, bytes):
            return [before, behind, replacement]
        return [before, *_header(raw, replacement.size), replacement, behind]

    def _fields(self, span: Span) -> Iterator[_Field]:
        """The fields of a message.

        Raises:
            WireError: it is none, or there are too many.
        """
        start, end = span.start, span.start + span.size
        while start < end:
            if not self.fields_left:
                raise WireError("too many fields")
            self.fields_left -= 1
            field = _field(self.data[start : min(end, start + 2 * _LONGEST_VARINT)], start)
            if field.end > end:
                raise WireError(f"a field that reaches beyond its message at byte {start}")
            yield field
            start = field.end


def _header(field: _Field, size: int) -> list[Piece]:
    """Tag and length of a field that now holds so many bytes."""
    if size == field.end - field.value:
        return [Span(field.start, field.value - field.start)]
    return [_varint(field.number << 3 | _LENGTH) + _varint(size)]


def _append(pieces: list[Piece], span: Span) -> None:
    """Add a span, to the last one where they touch."""
    last = pieces[-1] if pieces else None
    if isinstance(last, Span) and last.start + last.size == span.start:
        pieces[-1] = Span(last.start, last.size + span.size)
    else:
        pieces.append(span)


def _field(head: bytes, start: int) -> _Field:
    """The field that begins at ``start`` with these bytes.

    Raises:
        WireError: none does.
    """
    tag, at = _read_varint(head, 0)
    number, wire_type = tag >> 3, tag & 7
    size = 0
    if wire_type == _VARINT:
        _, at = _read_varint(head, at)
    elif wire_type == _LENGTH:
        size, at = _read_varint(head, at)
    elif wire_type in _FIXED:
        size = _FIXED[wire_type]
    if not number or wire_type not in (_VARINT, _LENGTH, *_FIXED):
        raise WireError(f"field {number} of wire type {wire_type} at byte {start}")
    return _Field(number, wire_type, start, start + at, start + at + size)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer, seven bits a byte, the lowest first; and where the next one begins."""
    value = 0
    for place in range(_LONGEST_VARINT):
        if at + place >= len(data):
            break
        value |= (data[at + place] & 0x7F) << 7 * place
        if data[at + place] < 0x80:
            return value, at + place + 1
    raise WireError("an integer without an end")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
