"""Text from elsewhere is shown, never obeyed."""

import json
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.errors import ModelError
from graphpress.printable import printable, printable_json, shell_word

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_everything_shows_itself(text):
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize("text", ["conv1", "é", "日本", "a b", "😀", "5 %", "→ …", "C:\\x"])
def test_what_shows_itself_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"), ("\0", "\\x00"), ("\x1b[2J", "\\x1b[2J"), ("\x7f", "\\x7f"),
        ("\x9b2J", "\\x9b2J"), ("\u202e", "\\u202e"), ("\u2066", "\\u2066"), ("\u2028", "\\u2028"),
        ("\udcff", "\\udcff"), ("\U000e0041", "\\U000e0041"), ("\ufeff", "\\ufeff"), ("\u200b", "\\u200b"),
    ],
)  # fmt: skip
def test_what_does_not_is_written_out(text, shown):
    assert printable(text) == shown


@given(ANY_TEXT)
def test_json_stays_the_same_json(text):
    shown = printable_json(json.dumps({text: [text]}, ensure_ascii=False, indent=2))
    assert json.loads(shown) == {text: [text]}
    assert shown.replace("\n", "").isprintable()
    shown.encode()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    "text", ["x", "it's", "a\nb", "\x1b[2J'\\", "\u202eé\\'\n", "$(touch no)\n`id`", "\x01f0", "\x9bé"]
)
def test_a_word_for_the_shell_is_that_word(text):
    word = shell_word(text)
    assert word.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert done.stdout.decode() == text


def test_an_error_is_one_line_and_its_remedy():
    error = ModelError("node a\nb is \x1b[31mwrong", where="m\u202e.onnx", fix="rename\r it")
    assert str(error) == "m\\u202e.onnx: node a\\nb is \\x1b[31mwrong\n  fix: rename\\r it"
    assert error.what == "node a\nb is \x1b[31mwrong"
