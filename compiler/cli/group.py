"""A command group with a default command: ``optimize MODEL`` beside ``optimize inspect MODEL``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from graphpress.errors import UsageError, did_you_mean

EXIT_CODES = (
    ("0", "done (also when the original was kept, which the report says)"),
    ("1", "a bug of graphpress or, with --strict, of a pass"),
    ("2", "wrong usage"),
    ("3", "bad model or data, also where it makes a native library crash"),
    ("4", "accuracy budget not met; the best model inside it is written"),
    ("5", "backend unavailable"),
    ("6", "the machine lacks memory, disk space, open files or a permission"),
    ("7", "what was asked for by name did nothing; the rest is delivered"),
    ("130", "interrupted"),
    ("141", "the reader of its output went away"),
    ("143", "terminated"),
)


class SectionOption(click.Option):
    """An option that stands under a heading in the help text."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class MainCommand(click.Command):
    """The default command; its help is the help of the whole program."""

    def get_help(self, ctx: click.Context) -> str:
        """The group's help text, which lists the options of this command."""
        return ctx.parent.get_help() if ctx.parent is not None else super().get_help(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse ``-output``, which would be the short ``-o`` with the value ``utput``."""
        long = {name for param in self.get_params(ctx) for name in param.opts if name.startswith("--")}
        for word in args:
            if f"-{word.partition('=')[0]}" in long:
                raise UsageError(f"no option {word}", fix=f"did you mean -{word}?")
        return super().parse_args(ctx, args)


class DefaultGroup(click.Group):
    """Runs ``default`` unless the first word names a command. A file of such a name is given as ``./inspect``."""

    def __init__(self, *args: Any, default: click.Command, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command's name in front of arguments that name no command."""
        own = {name for option in self.get_params(ctx) for name in option.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            self._check_command(args[0])
            args = [str(self.default.name), *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, the default one included."""
        return self.commands.get(cmd_name, self.default if cmd_name == self.default.name else None)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Both forms of the command line."""
        formatter.write_usage(ctx.command_path, "MODEL [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...", prefix="       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The default command's options by section, then the commands and the exit codes."""
        inner = click.Context(self.default, info_name=self.default.name, parent=ctx)
        for section, rows in _sections(inner, [*self.default.params, *self.get_params(ctx)]).items():
            with formatter.section(section):
                formatter.write_dl(rows)
        self.format_commands(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl(EXIT_CODES)

    def _check_command(self, word: str) -> None:
        could_be_file = word.startswith("-") or "/" in word or Path(word).suffix or Path(word).exists()
        if not could_be_file and difflib.get_close_matches(word, self.commands, n=1):
            raise UsageError(f"no command and no model file {word!r}", fix=did_you_mean(word, self.commands))


def _sections(ctx: click.Context, params: list[click.Parameter]) -> dict[str, list[tuple[str, str]]]:
    sections: dict[str, list[tuple[str, str]]] = {}
    for heading, row in _rows(ctx, params):
        sections.setdefault(heading, []).append(row)
    return sections


def _rows(ctx: click.Context, params: list[click.Parameter]) -> Iterator[tuple[str, tuple[str, str]]]:
    for param in params:
        row = param.get_help_record(ctx) if isinstance(param, click.Option) else None
        if row is not None:
            yield getattr(param, "section", "Other"), row
