import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from graphpress.cli.group import EXIT_CODES
from graphpress.cli.main import main
from graphpress.cli.optimize import BUDGET_NOT_MET, NOT_DONE
from graphpress.cli.program import cli
from graphpress.errors import GraphpressError

GOLDEN = Path(__file__).parents[2] / "golden"
COMMANDS = ["", "inspect", "compare", "bench", "targets", "passes", "doctor"]


def help_of(command: str) -> str:
    words = [*command.split(), "--help"]
    result = CliRunner().invoke(cli, words, prog_name="optimize", terminal_width=100)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_as_recorded(command):
    """Set GRAPHPRESS_UPDATE_GOLDEN=1 to record it anew."""
    golden = GOLDEN / f"help{'-' if command else ''}{command}.txt"
    text = help_of(command)
    if os.environ.get("GRAPHPRESS_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_help_after_a_model_is_the_help_of_the_whole_program():
    result = CliRunner().invoke(cli, ["model.onnx", "--help"], prog_name="optimize", terminal_width=100)
    assert result.output == help_of("")


def test_every_option_of_the_main_command_is_explained():
    default = cli.default
    options = [option for option in default.params if option.param_type_name == "option"]
    assert len(options) >= 20
    assert all(option.help and len(option.help) > 10 for option in options)


def test_every_error_s_exit_code_is_explained():
    classes = [GraphpressError, *GraphpressError.__subclasses__()]
    codes = {*(error.exit_code for error in classes), BUDGET_NOT_MET, NOT_DONE}
    assert {str(code) for code in codes} <= {code for code, _ in EXIT_CODES}


def test_what_is_often_given_has_a_short_form(api):
    assert main([*["-o", "out", "-t", "jetson", "-d", "d.npz", "-r", "int8", "-f", "-q", "m.onnx"]]) == 0
    given = api.calls[0][1]
    assert [given[name] for name in ("output", "target", "data", "recipe", "force")] == [
        "out", "jetson", "d.npz", "int8", True
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["-output", "-output=there", "-time-limit"])
def test_a_long_option_with_one_dash_is_no_short_option_with_a_value(word, capsys):
    assert main(["m.onnx", word, "there"]) == 2
    assert f"did you mean -{word}?" in capsys.readouterr().err
