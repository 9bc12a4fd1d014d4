"""What may be chosen of a kernel without changing its results: one field of its type, called its knob."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, cast

from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.kernels.depthwise import Depthwise
from graphpress.backends.tvm.kernels.kernel import Kernel
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.tiles import ranked_tiles
from graphpress.validation import MismatchError, conform

K = TypeVar("K", bound=Kernel)

UNROLLS = (1, 2, 4, 8)
"""Steps of a reduction that are written out."""


class Knob(Protocol):
    """The field of a type of kernels that is chosen."""

    @property
    def field(self) -> str:
        """Its name."""
        ...

    @property
    def kind(self) -> type:
        """Type of its values."""
        ...

    def settings(self, kernel: Any, isa: Isa, threads: int) -> Iterable[Any]:
        """Values, those first that are likely to be fast."""
        ...

    def neighbors(self, kernel: Any, isa: Isa, threads: int) -> Iterable[Any]:
        """Values that differ little from the kernel's own."""
        ...

    def allows(self, kernel: Any, isa: Isa) -> bool:
        """Whether the kernel works with the value that it has."""
        ...


@dataclass(frozen=True)
class TileKnob:
    """Tiles of a product."""

    field: str = "tile"
    kind: type = Tile

    def settings(self, kernel: Product, isa: Isa, threads: int) -> Iterable[Tile]:
        """In the order of the rules."""
        return (product.tile for product in ranked_tiles(kernel, isa, threads))

    def neighbors(self, kernel: Product, isa: Isa, threads: int) -> Iterator[Tile]:
        """Other lengths of the inner loop, the other way of fetching weights, other orders."""
        tile = kernel.tile
        yield from (replace(tile, unroll=unroll) for unroll in UNROLLS if unroll != tile.unroll)
        yield replace(tile, prefetch=not tile.prefetch)
        rows = kernel.row_tiles
        orders = dict.fromkeys(groups for groups in (1, threads, rows) if rows % groups == 0)
        yield from (replace(tile, row_groups=groups) for groups in orders if groups != tile.row_groups)

    def allows(self, kernel: Product, isa: Isa) -> bool:
        """Whether the registers hold it, its rows divide as it says, and its sides are among those of the settings."""
        tile = kernel.tile
        sizes = (tile.rows, tile.columns, tile.vectors, tile.unroll, tile.row_groups)
        if min(sizes) < 1 or tile.unroll > max(UNROLLS) or not kernel.fits(isa):
            return False
        sides = {(other.rows, other.vectors) for other in self.settings(kernel, isa, 1)}
        return kernel.row_tiles % tile.row_groups == 0 and (tile.rows, tile.vectors) in sides


@dataclass(frozen=True)
class ColumnsKnob:
    """Pixels of a tile of a depthwise convolution."""

    field: str = "columns"
    kind: type = int

    def settings(self, kernel: Depthwise, isa: Isa, threads: int) -> Iterable[int]:
        """Few pixels leave less of a rest, many read each column for more of them."""
        most = min(kernel.store.plane.width, isa.registers // 2)
        return sorted(range(1, most + 1), key=lambda columns: abs(columns - kernel.columns))

    def neighbors(self, kernel: Depthwise, isa: Isa, threads: int) -> Iterable[int]:
        """There are none but the settings."""
        return ()

    def allows(self, kernel: Depthwise, isa: Isa) -> bool:
        """Whether there are so many pixels, and registers."""
        return 1 <= kernel.columns <= min(kernel.store.plane.width, isa.registers // 2)


KNOBS: Mapping[type, Knob] = MappingProxyType({Product: TileKnob(), Depthwise: ColumnsKnob()})
"""Knobs by type of kernel."""


def knob_of(kernel: Kernel) -> Knob | None:
    """The knob of a kernel; None where it has none."""
    return KNOBS.get(type(kernel))


def turned(kernel: K, setting: Any) -> K:
    """The kernel with another value of its knob."""
    changed: Any = kernel
    return cast("K", replace(changed, **{KNOBS[type(kernel)].field: setting}))


def recorded_setting(kernel: Kernel) -> Any:
    """The value of a kernel's knob as JSON holds it."""
    setting = getattr(kernel, KNOBS[type(kernel)].field)
    return asdict(setting) if is_dataclass(setting) else setting  # type: ignore[arg-type]


def with_recorded(kernel: K, record: Any, isa: Isa) -> K | None:
    """The kernel with a value of its knob that was recorded; None where it does not work with that."""
    knob = KNOBS[type(kernel)]
    try:
        other = turned(kernel, conform(record, knob.kind, knob.field))
    except MismatchError:
        return None
    return other if knob.allows(other, isa) else None


def problem_of(kernel: Any) -> str:
    """A name for what a kernel computes, whatever the value of its knob."""
    knob = KNOBS[type(kernel)]
    rest = [(field.name, getattr(kernel, field.name)) for field in fields(kernel) if field.name != knob.field]
    return f"{type(kernel).__name__.lower()}_{hashlib.sha256(repr(rest).encode()).hexdigest()[:16]}"
