"""Text for people: no word is broken where the terminal ends, and nothing is wrapped where there is no terminal."""

import re

import click
import pytest

from graphpress.cli import text
from graphpress.cli.main import main
from graphpress.cli.text import echo, say, styled, table
from graphpress.manager.recipe import from_passes
from graphpress.manager.registry import pass_names

WORDS = "of a sentence that is longer than what a narrow terminal can show in one line of it"


@pytest.fixture
def terminal(monkeypatch):
    """Call it with a number of columns to have a terminal of them."""

    def of(columns):
        monkeypatch.setattr(text, "_is_terminal", lambda *, err: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return of


@pytest.fixture
def narrow(terminal):
    terminal(80)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    "words", [["passes"], ["targets"], ["doctor"], *(["passes", name] for name in pass_names()), ["--help"]]
)
def test_no_line_of_a_list_is_longer_than_the_terminal(words, capsys):
    assert main(words) == 0
    lines = capsys.readouterr().out.split("\n")
    assert all(len(line) <= 80 or " " not in line.strip() for line in lines), lines


@pytest.mark.usefixtures("narrow")
def test_no_line_of_a_summary_is_longer_than_the_terminal(api, capsys):
    assert main(["m.onnx"]) == 0
    assert all(len(line) <= 80 for line in capsys.readouterr().out.split("\n"))


@pytest.mark.parametrize("columns", ["", "40"])
def test_nothing_is_wrapped_without_a_terminal(api, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    say(f"note: {WORDS} {WORDS}")
    assert capsys.readouterr().out == f"note: {WORDS} {WORDS}\n"


def test_what_is_said_keeps_its_words_and_its_indentation(capsys, terminal):
    terminal(40)
    say(f"  note: {WORDS}", "short")
    lines = capsys.readouterr().out.rstrip().split("\n")
    assert " ".join(" ".join(lines).split()) == f"note: {WORDS} short"
    assert lines[0].startswith("  note")
    assert all(line.startswith("    ") for line in lines[1:-1])


@pytest.mark.usefixtures("narrow")
def test_what_programs_read_is_never_wrapped(capsys):
    echo(f"{WORDS} {WORDS}")
    assert capsys.readouterr().out == f"{WORDS} {WORDS}\n"
    assert main(["passes", "quantize", "--json"]) == 0
    assert re.search("^.{81,}$", capsys.readouterr().out, re.MULTILINE)


def test_the_last_column_is_wrapped_beside_the_others_or_goes_below(terminal):
    terminal(60)
    lines = table([("name", WORDS), ("b", "c")]).split("\n")
    assert all(line.startswith(("name  ", "      ", "b     ")) for line in lines)
    assert max(map(len, lines)) <= 60
    below = table([("name" * 12, WORDS)], head=("first", "second")).split("\n")
    assert [click.unstyle(line) for line in below[:3]] == ["first", "    second", "name" * 12]
    assert all(line.startswith("    ") for line in below[3:])


def test_colors_take_no_room(terminal):
    terminal(60)
    words = WORDS.split()
    plain, colored = table([("x", WORDS)]), table([("x", " ".join(words[:1]) + " " + " ".join(words[1:]))])
    assert click.unstyle(table([("x", styled(WORDS, fg="red"))])) == plain == colored


@pytest.mark.parametrize("name", pass_names())
def test_the_example_of_every_pass_is_one_that_it_takes(name, capsys):
    assert main(["passes", name]) == 0
    example = re.search(r"--passes '(.*)'", capsys.readouterr().out)
    if example:
        from_passes(example[1])
