"""Tab-separated tables: columns by name or index, numbers or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphpress.data.bounds import BYTES_OF_TEXT, check_room
from graphpress.errors import DataError, did_you_mean

ColumnName = str | int


@dataclass(frozen=True)
class Table:
    """A table in memory, one list of cells a row.

    Args:
        where: the file.
        rows: cells, the header line not among them.
        header: column names, or None.
    """

    where: str
    rows: list[list[str]]
    header: list[str] | None

    def column(self, name: ColumnName) -> np.ndarray:
        """One column: int64 or float64 where every cell is such a number, else text.

        Raises:
            DataError: there is no such column.
        """
        at = self._position(name)
        cells = [row[at] for row in self.rows]
        for kind in (int, float):
            try:
                return np.array([kind(cell) for cell in cells])
            except (ValueError, OverflowError):
                continue
        return np.array(cells, dtype=object)

    def columns(self, names: Sequence[ColumnName]) -> np.ndarray:
        """Several numeric columns side by side, ``[rows, columns]``.

        Raises:
            DataError: one of them holds text.
        """
        columns = [self.column(name) for name in names]
        for name, column in zip(names, columns, strict=True):
            if column.dtype == object:
                raise DataError(f"column {name!r} holds text", where=self.where, fix="list numeric columns only")
        return np.stack(columns, axis=1)

    def _position(self, name: ColumnName) -> int:
        width = len(self.rows[0]) if self.rows else len(self.header or ())
        if isinstance(name, int):
            if not 0 <= name < width:
                raise DataError(f"has no column {name}", where=self.where, fix=f"its columns are 0 to {width - 1}")
            return name
        if self.header is None or name not in self.header:
            raise DataError(f"has no column {name!r}", where=self.where, fix=did_you_mean(name, self.header or ()))
        return self.header.index(name)


def read_table(path: Path, named: bool, numeric: Sequence[int] = ()) -> Table:
    """Read a table.

    Args:
        path: the file, UTF-8, one row a line.
        named: columns are asked for by name, so that the first line is a header.
        numeric: indices of columns that ought to hold numbers: a first line where none of them does, while the second
            has them, is taken for a header too.

    Raises:
        DataError: it cannot be read, is empty, too large for the memory, or its rows differ in width.
    """
    check_room(BYTES_OF_TEXT * path.stat().st_size, str(path))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error
    rows = [line.split("\t") for line in lines if line.strip()]
    if not rows:
        raise DataError("is empty", where=str(path), fix="give a table with at least one row")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise DataError(f"row {number} has {len(row)} columns, the first {len(rows[0])}", where=str(path))
    has_header = named or _looks_like_header(rows, numeric)
    return Table(str(path), rows[1:] if has_header else rows, rows[0] if has_header else None)


def _looks_like_header(rows: list[list[str]], numeric: Sequence[int]) -> bool:
    columns = [at for at in numeric if at < len(rows[0])]
    if not columns or len(rows) < 2:
        return False
    return not any(_is_number(rows[0][at]) for at in columns) and any(_is_number(rows[1][at]) for at in columns)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
