"""Readings of option values that need more than click's own types; each is an option's callback."""

from __future__ import annotations

import re
from typing import Literal

import click

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Filled(click.ParamType[str]):
    """Text that says something: an option without a value is a mistake, not a wish for the default.

    Args:
        blanks: characters that alone say nothing.
    """

    name = "text"

    def __init__(self, blanks: str = " ") -> None:
        self.blanks = blanks

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is."""
        if not value.strip(self.blanks):
            self.fail("it is empty: give a value, or leave the option out.", param, ctx)
        return value


FILLED = Filled()
PIPELINE = Filled(blanks=" ,")


def budget(ctx: click.Context, param: click.Parameter, value: str) -> float | Literal["auto"] | None:
    """A fraction below 1, or a percentage: ``0.01``, ``1%``; None for the word ``none``; ``auto`` for what is usual."""
    if value.lower() == "none":
        return None
    if value.lower() == "auto":
        return "auto"
    number, is_percentage = value.removesuffix("%").strip(), value.endswith("%")
    try:
        drop = float(number) / (100 if is_percentage else 1)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is neither a number nor 'none'.", ctx, param) from error
    if 1 <= drop <= 100 and not is_percentage:  # a fraction of one would be no limit at all
        meant = f"was {drop / 100:g} meant, or {drop:g}%? `none` waives the limit"
        raise click.BadParameter(f"{value} is all of the metric (0.01 is one point): {meant}.", ctx, param)
    if not 0 <= drop <= 1:
        raise click.BadParameter(f"{value} is not a fraction between 0 and 1 (0.01 is one point).", ctx, param)
    return drop


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds, from a number with or without a unit: ``90``, ``10m``, ``1.5h``."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d*)?)([smh]?)", value)
    if match is None or float(match[1]) == 0:
        raise click.BadParameter(f"{value!r} is not a duration such as 90, 10m or 1.5h.", ctx, param)
    return float(match[1]) * _UNITS[match[2]]
