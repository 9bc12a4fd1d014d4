"""Text and steps are two forms of one thing."""

import math
import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.errors import UsageError
from graphpress.manager.syntax import PassCall, format_steps, parse_steps

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["no", "1e5", "~", "12:30", "2001-01-01", "-", "a:"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
STEPS = st.lists(st.builds(PassCall, NAMES, st.dictionaries(NAMES, VALUES, max_size=3)), max_size=4)


def test_a_ratio_is_no_number_to_base_sixty():
    assert parse_steps("sparsify{pattern=2:4}") == [PassCall("sparsify", {"pattern": "2:4"})]


@given(STEPS)
def test_what_is_written_reads_back(steps):
    assert parse_steps(format_steps(steps)) == steps


@given(STEPS)
def test_writing_is_canonical(steps):
    text = format_steps(steps)
    assert format_steps(parse_steps(text)) == text


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        (" a , b ", [PassCall("a", {}), PassCall("b", {})]),
        ("a{}", [PassCall("a", {})]),
        ("a{x=1,y=0.5}", [PassCall("a", {"x": 1, "y": 0.5})]),
        ("a{x=[1, 2],y=b}", [PassCall("a", {"x": [1, 2], "y": "b"})]),
        ("a{x='b,}'}", [PassCall("a", {"x": "b,}"})]),
        ('a{x="\\\\"},b', [PassCall("a", {"x": "\\"}), PassCall("b", {})]),
        ("a{x=.inf}", [PassCall("a", {"x": math.inf})]),
        ("my.module:Trim{x=yes}", [PassCall("my.module:Trim", {"x": True})]),
    ],
)
def test_reads(text, steps):
    assert parse_steps(text) == steps


@pytest.mark.parametrize(
    "text",
    ["a{", "a}", "a{x}", "a{=1}", "a{x=1,x=2}", "{x=1}", "a{x=[1}", "a{x='}", "a{x=1}b", "a{x=1}{y=2}", 'a{x="\\q"}'],
)
def test_what_cannot_be_read_says_where_and_how_to_fix_it(text):
    with pytest.raises(UsageError) as raised:
        parse_steps(text)
    assert raised.value.where == "--passes"
    assert raised.value.fix


@given(st.text(string.printable, max_size=30))
def test_no_text_breaks_the_reader(text):
    with suppress(UsageError):
        parse_steps(text)
