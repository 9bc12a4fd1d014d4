"""What every model builder has in common."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from graphpress.errors import UsageError, did_you_mean
from graphpress.ir import Model
from graphpress.models.builder import Builder


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A family of models; the fields are its sizes.

    Args:
        batch: a fixed batch size, or the name of a dynamic one.
        opset: version of the standard operator set, 13 or later.
        seed: of the parameters; the same arguments give the same bytes.

    Raises:
        UsageError: a size that is not positive, or a text that is none of the choices.
    """

    batch: int | str = "batch"
    opset: int = 17
    seed: int = 0

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check_size(field.name, getattr(self, field.name), hints[field.name])

    def build(self) -> Model:
        """The model these sizes describe.

        Raises:
            UsageError: the sizes do not fit together.
        """
        raise NotImplementedError

    def builder(self) -> Builder:
        """An empty graph named after the class, with this opset and seed."""
        return Builder(type(self).__name__.lower(), opset=self.opset, seed=self.seed)


def require_multiple(name: str, value: int | str, divisor: int) -> None:
    """Refuse a size that is no multiple of ``divisor``; the name of a dynamic one passes.

    Raises:
        UsageError: names the size.
    """
    if not isinstance(value, str) and value % divisor:
        raise UsageError(f"{value} is no multiple of {divisor}", where=name, fix=f"take a multiple of {divisor}")


def _check_size(name: str, value: Any, hint: Any) -> None:
    if get_origin(hint) is Literal and value not in get_args(hint):
        raise UsageError(f"no such choice {value!r}", where=name, fix=did_you_mean(str(value), get_args(hint)))
    for number in value if isinstance(value, tuple | list) else [value]:
        if isinstance(number, int | float) and not isinstance(number, bool) and name != "seed" and number <= 0:
            raise UsageError(f"{number} is no size", where=name, fix="take a positive number")
