"""Values against annotations: one check of fields for Python, recipes, target files and the command line.

What is accepted is converted to what the annotation says: a list to a tuple, a whole number to a float. From text, a
word that reads as a number is one too, for YAML takes ``1e-4`` for a word. Annotations that are no case below, such as
protocols, accept everything.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from graphpress.errors import UsageError, did_you_mean

T = TypeVar("T")


class MismatchError(Exception):
    """A value that is not what its field takes.

    Args:
        field: the field, with the way to the value inside it: ``roles[1]``.
        what: what is wrong with it: ``cannot be 'eech'``.
        fix: what to do about it.
    """

    def __init__(self, field: str, what: str, fix: str) -> None:
        self.field, self.what, self.fix = field, what, fix
        super().__init__(f"{field} {what}: {fix}")


@dataclass(frozen=True)
class Constraint:
    """What a field takes beyond its type: ``Annotated[int, at_least(1)]``.

    Args:
        accepts: whether it takes a value of that type.
        what: what it takes, in words: ``at least 1``.
        schema: what JSON Schema says of it: ``{"minimum": 1}``.
    """

    accepts: Callable[[Any], bool]
    what: str
    schema: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __get_pydantic_json_schema__(self, kind: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """How pydantic writes a field with this constraint."""
        return {**handler(kind), **self.schema}


def at_least(bound: int) -> Constraint:
    """Finite numbers from a bound on."""
    return Constraint(lambda value: bound <= value < math.inf, f"at least {bound}", {"minimum": bound})


def above(bound: int) -> Constraint:
    """Finite numbers above a bound."""
    return Constraint(lambda value: bound < value < math.inf, f"above {bound}", {"exclusiveMinimum": bound})


def words(*choices: str) -> Constraint:
    """Some words, for a field that the program itself may fill with others; else a ``Literal`` says it."""
    return Constraint(choices.__contains__, " or ".join(map(repr, choices)), {"enum": list(choices)})


def matching(pattern: str, what: str) -> Constraint:
    """Texts of one form; ``what`` describes it."""
    return Constraint(lambda text: re.fullmatch(pattern, text) is not None, what, {"pattern": f"^{pattern}$"})


def ascending() -> Constraint:
    """Lists whose items do not become smaller."""
    return Constraint(lambda items: list(items) == sorted(items), "numbers in ascending order")


def not_empty() -> Constraint:
    """Lists that hold something."""
    return Constraint(lambda items: len(items) > 0, "at least one", {"minItems": 1})


def check_fields(instance: Any) -> None:
    """Check the fields of a dataclass against their annotations, and convert them in place.

    Raises:
        MismatchError: the first field that holds something else.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Trim:
    ...     mode: Literal["soft", "hard"] = "soft"
    >>> check_fields(Trim("hrad"))
    Traceback (most recent call last):
        ...
    graphpress.validation.MismatchError: mode cannot be 'hrad': did you mean 'hard'?
    """
    for name, annotation in annotations_of(type(instance)).items():
        value = getattr(instance, name)
        converted = conform(value, annotation, name)
        if converted is not value:
            object.__setattr__(instance, name, converted)  # a frozen one, too: it is not finished yet


def build(kind: type[T], table: Mapping[str, Any], *, place: str = "", from_text: bool = False) -> T:
    """An instance of a dataclass from a table.

    Args:
        kind: the dataclass; a field that is a dataclass itself takes a table.
        table: values by the name of the field.
        place: the way to the table, for errors.
        from_text: words that read as numbers are numbers.

    Raises:
        MismatchError: an unknown or missing field, or a value of the wrong kind.
    """
    annotations = annotations_of(kind)
    for name in table:
        if name not in annotations:
            fix = did_you_mean(str(name), annotations) if annotations else "it has no fields"
            raise MismatchError(_below(place, str(name)), "is not known", fix)
    for item in fields(kind):  # type: ignore[arg-type]
        if item.init and item.name not in table and item.default is MISSING and item.default_factory is MISSING:
            raise MismatchError(_below(place, item.name), "is missing", f"give {describe(annotations[item.name])}")
    return kind(
        **{name: conform(value, annotations[name], _below(place, name), from_text) for name, value in table.items()}
    )


def annotations_of(kind: Any) -> dict[str, Any]:
    """The annotation of each field that a dataclass takes, as the object that it stands for.

    Raises:
        UsageError: an annotation names something that is not there when the program runs.
    """
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise UsageError(
            f"the annotations of its fields cannot be read ({error})",
            where=f"{kind.__module__}:{kind.__qualname__}",
            fix="import what they name when the module is loaded, not under TYPE_CHECKING",
        ) from error
    return {item.name: hints[item.name] for item in fields(kind) if item.init}


def conform(value: Any, annotation: Any, field: str, from_text: bool = False) -> Any:
    """The value as the annotation wants it.

    Raises:
        MismatchError: it is something else.
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        return _constrained(value, get_args(annotation), field, from_text)
    if origin in (Union, UnionType):
        return _one_of(value, get_args(annotation), field, from_text)
    if origin is Literal:
        return _word(value, get_args(annotation), field)
    if origin in _COLLECTIONS:
        return _COLLECTIONS[origin](value, annotation, field, from_text)
    if annotation in _SCALARS:
        accepted, convert = _SCALARS[annotation]
        value = _number(value) if from_text and annotation in (int, float) else value
        if not accepted(value):
            raise _mismatch(value, annotation, field)
        return convert(value)
    if is_dataclass(annotation) and isinstance(value, Mapping) and isinstance(annotation, type):
        return build(annotation, value, place=field, from_text=from_text)
    if not _is_instance(value, origin or annotation):
        raise _mismatch(value, annotation, field)
    return value


def describe(annotation: Any) -> str:
    """What an annotation takes, in words.

    >>> describe(float | None), describe(tuple[Literal["a", "b"], ...])
    ('a number or None', "a list, each item 'a' or 'b'")
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(describe(choice) for choice in arguments))
    if origin is Literal:
        return " or ".join(repr(word) for word in arguments)
    if origin in (tuple, list, Sequence):
        return f"a list, each item {describe(arguments[0])}"
    if is_dataclass(annotation) and fields(annotation):
        return "a table"
    return _WORDS.get(origin or annotation) or str(getattr(annotation, "__name__", annotation))


_WORDS: dict[Any, str] = {
    NoneType: "None",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "a table",
    Mapping: "a table",
    Callable: "a function",
    type: "a class",
    os.PathLike: "a path",
    Iterable: "something to iterate over",
}


def _constrained(value: Any, arguments: Sequence[Any], field: str, from_text: bool) -> Any:
    """A value of the first argument's kind that the constraints among the others accept."""
    converted = conform(value, arguments[0], field, from_text)
    for constraint in arguments[1:]:
        if isinstance(constraint, Constraint) and not constraint.accepts(converted):
            choices = constraint.schema.get("enum")
            fix = did_you_mean(converted, choices) if choices else f"give {constraint.what}"
            raise MismatchError(field, f"cannot be {value!r}", fix)
    return converted


def _mismatch(value: Any, annotation: Any, field: str) -> MismatchError:
    return MismatchError(field, f"cannot be {value!r}", f"give {describe(annotation)}")


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _number(text: Any) -> Any:
    """The number that a word reads as, or the word."""
    if not isinstance(text, str):
        return int(text) if isinstance(text, float) and text.is_integer() else text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


_SCALARS: dict[Any, tuple[Callable[[Any], bool], Callable[[Any], Any]]] = {
    Any: (lambda value: True, lambda value: value),
    NoneType: (lambda value: value is None, lambda value: value),
    bool: (lambda value: isinstance(value, bool), bool),
    int: (lambda value: isinstance(value, Integral) and not isinstance(value, bool), int),
    float: (lambda value: isinstance(value, Real) and not isinstance(value, bool), float),
    str: (lambda value: isinstance(value, str), str),
}
"""What is accepted, and how it is converted."""


def _one_of(value: Any, choices: Sequence[Any], field: str, from_text: bool) -> Any:
    """The first alternative that takes the value; of words, all alternatives together are to choose from."""
    for choice in choices:
        try:
            return conform(value, choice, field, from_text)
        except MismatchError as mismatch:
            inside = mismatch
    others = [choice for choice in choices if choice is not NoneType]
    words = [word for choice in others if get_origin(choice) is Literal for word in get_args(choice)]
    takes_numbers = not {int, float}.isdisjoint(others)
    if words and isinstance(value, str) and not (takes_numbers and value[:1].isdigit()):
        return _word(value, words, field)
    if len(others) == 1:
        return conform(value, others[0], field, from_text)
    raise _mismatch(value, Union[tuple(choices)], field) from inside  # noqa: UP007


def _word(value: Any, words: Sequence[Any], field: str) -> Any:
    if any(value == word and type(value) is type(word) for word in words):
        return value
    raise MismatchError(field, f"cannot be {value!r}", did_you_mean(str(value), map(str, words)))


def _items(value: Any, annotation: Any, field: str, from_text: bool) -> Any:
    """A list or tuple, as a tuple where the annotation says so or leaves it open."""
    arguments = get_args(annotation)
    if not isinstance(value, (list, tuple)):
        raise MismatchError(field, f"cannot be {value!r}", f"give {describe(annotation)}")
    kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis or len(arguments) == 1 else arguments
    if len(kinds) != len(value):
        raise MismatchError(field, f"cannot be {value!r}", f"give {len(kinds)} items")
    items = [
        conform(item, kind, f"{field}[{index}]", from_text)
        for index, (item, kind) in enumerate(zip(value, kinds, strict=True))
    ]
    return items if get_origin(annotation) is list else tuple(items)


def _table(value: Any, annotation: Any, field: str, from_text: bool) -> Any:
    """A mapping with keys and values of the annotation's kinds."""
    if not isinstance(value, Mapping):
        raise _mismatch(value, annotation, field)
    of_key, of_value = get_args(annotation)
    return {
        conform(key, of_key, f"{field}'s key"): conform(item, of_value, _below(field, str(key)), from_text)
        for key, item in value.items()
    }


_COLLECTIONS: dict[Any, Callable[[Any, Any, str, bool], Any]] = {
    tuple: _items,
    list: _items,
    Sequence: _items,
    dict: _table,
    Mapping: _table,
}


def _is_instance(value: Any, kind: Any) -> bool:
    """Whether the value is of that class; anything that is no class, or cannot be asked, takes everything."""
    if kind is Callable:
        return callable(value)
    try:
        return isinstance(value, kind)
    except TypeError:
        return True
