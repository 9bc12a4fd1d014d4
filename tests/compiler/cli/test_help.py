import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from graphpress.cli.group import EXIT_CODES
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
    assert {str(error.exit_code) for error in classes} <= {code for code, _ in EXIT_CODES}
