"""Values against annotations: what is accepted, how it is converted, and what is said about the rest."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.errors import UsageError
from graphpress.validation import (
    MismatchError,
    above,
    at_least,
    build,
    check_fields,
    conform,
    describe,
    matching,
    not_empty,
    words,
)


class Walks(Protocol):
    def walk(self) -> None: ...


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Outer:
    name: str
    ratio: float = 0.5
    inner: Inner = field(default_factory=Inner)
    words: tuple[str, ...] = ()
    kind: ClassVar[str] = "outer"


TAKEN = [
    (3, int, 3),
    (np.int64(3), int, 3),
    (3, float, 3.0),
    (np.float32(0.5), float, 0.5),
    (True, bool, True),
    ("a", str, "a"),
    (None, int | None, None),
    (2, int | None, 2),
    ("b", Literal["a", "b"], "b"),
    ("b", Literal["a"] | Literal["b", "c"], "b"),
    (["a"], tuple[str, ...], ("a",)),
    (("a", 1), tuple[str, int], ("a", 1)),
    (("a",), Sequence[str], ("a",)),
    ((1, 2), list[int], [1, 2]),
    ({"a": 1}, dict[str, float], {"a": 1.0}),
    ({"a": 1}, Mapping[str, int], {"a": 1}),
    (print, Callable[..., Any], print),
    (3, Any, 3),
    (3, Walks, 3),
    ({"depth": 2}, Inner, Inner(2)),
    (Inner(2), Inner, Inner(2)),
]


@pytest.mark.parametrize(("value", "annotation", "expected"), TAKEN)
def test_what_an_annotation_takes(value, annotation, expected):
    converted = conform(value, annotation, "field")
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "field", "fix"),
    [
        ("3", int, "x", "give a whole number"),
        (3.0, int, "x", "give a whole number"),
        (True, int, "x", "give a whole number"),
        ("0.5", float, "x", "give a number"),
        (1, bool, "x", "give true or false"),
        (3, str, "x", "give a text"),
        ("two", int | None, "x", "give a whole number"),
        ("eech", Literal["each", "none"], "x", "did you mean 'each'?"),
        ("unifrm", Literal["auto"] | Literal["uniform"], "x", "did you mean 'uniform'?"),
        (3, Literal["a"] | None, "x", "choose one of: a"),
        (3, str | Callable[..., Any] | None, "x", "give a text or a function or None"),
        ("abc", tuple[str, ...], "x", "give a list, each item a text"),
        (["a", 3], tuple[str, ...], "x[1]", "give a text"),
        (("a",), tuple[str, int], "x", "give 2 items"),
        ({"a": "b"}, dict[str, float], "x.a", "give a number"),
        ([1], dict[str, float], "x", "give a table"),
        (3, Callable[..., Any], "x", "give a function"),
        ({"dept": 2}, Inner, "x.dept", "did you mean 'depth'?"),
        (3, Inner, "x", "give a table"),
    ],
)
def test_what_it_does_not_take_is_said_with_the_remedy(value, annotation, field, fix):
    with pytest.raises(MismatchError) as raised:
        conform(value, annotation, "x")
    assert (raised.value.field, raised.value.fix) == (field, fix)


@pytest.mark.parametrize(("word", "annotation", "number"), [("1e-4", float, 1e-4), ("8", int, 8), (8.0, int, 8)])
def test_text_expresses_numbers(word, annotation, number):
    assert conform(word, annotation | None, "x", from_text=True) == number
    with pytest.raises(MismatchError):
        conform("much", annotation, "x", from_text=True)


def test_a_table_becomes_a_dataclass_with_dataclasses_inside():
    built = build(Outer, {"name": "a", "ratio": 1, "inner": {"depth": 3}, "words": ["b"]})
    assert built == Outer("a", 1.0, Inner(3), ("b",))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"nam": "a"}, "nam is not known: did you mean 'name'?"),
        ({"ratio": 1}, "name is missing: give a text"),
        ({"name": "a", "inner": {"depth": "deep"}}, "inner.depth cannot be 'deep': give a whole number"),
        ({"name": "a", "kind": "b"}, "kind is not known"),
    ],
)
def test_what_is_wrong_with_a_table(table, said):
    with pytest.raises(MismatchError) as raised:
        build(Outer, table)
    assert said in str(raised.value)


def test_fields_are_converted_in_place():
    made = Outer("a", 1, Inner(), ["b"])
    check_fields(made)
    assert made == Outer("a", 1.0, Inner(), ("b",))
    assert hash(made)


def test_an_annotation_that_cannot_be_read_is_said():
    @dataclass
    class Strange:
        where: "NoSuchName"  # noqa: F821

    with pytest.raises(UsageError, match="NoSuchName"):
        check_fields(Strange(3))


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.lists(st.text())))
def test_every_value_is_taken_or_refused_and_taking_twice_changes_nothing(value):
    for _, annotation, _ in TAKEN:
        with suppress(MismatchError):
            converted = conform(value, annotation, "x")
            assert conform(converted, annotation, "x") == converted


def test_annotations_in_words():
    assert describe(float | None) == "a number or None"
    assert describe(tuple[Literal["a", "b"], ...]) == "a list, each item 'a' or 'b'"


@pytest.mark.parametrize(
    ("value", "annotation", "fix"),
    [
        (0, Annotated[int, at_least(1)], "give at least 1"),
        (float("nan"), Annotated[float, at_least(0)], "give at least 0"),
        (0, Annotated[float, above(0)], "give above 0"),
        ("b", Annotated[str, words("a")], "choose one of: a"),
        ("2-4", Annotated[str, matching("[0-9]:[0-9]", "n:m")], "give n:m"),
        ([], Annotated[tuple[int, ...], not_empty()], "give at least one"),
        ("3", Annotated[int, at_least(1)], "give a whole number"),
    ],
)
def test_a_constraint_is_held_after_the_type(value, annotation, fix):
    with pytest.raises(MismatchError) as raised:
        conform(value, annotation, "x")
    assert raised.value.fix == fix


def test_what_a_constraint_accepts_is_converted_as_its_type_says():
    assert conform([1, 2], Annotated[tuple[Annotated[int, at_least(1)], ...], not_empty()], "x") == (1, 2)
