"""Labels: from an array, a table, another file, or the names of image files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graphpress.data.arrays import array_names, is_idx, read_idx, read_npy, read_npz
from graphpress.data.inputs import is_text
from graphpress.data.schema import LabelSpec
from graphpress.data.tables import ColumnName, Table, read_table
from graphpress.errors import DataError


def from_names(names: Sequence[str], pattern: str, where: str) -> np.ndarray:
    """The first group of ``pattern``, searched in each relative path: int64 where all are integers, else text.

    Raises:
        DataError: the pattern is not a regular expression with a group, or a name does not match it.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(
            f"from_name {pattern!r} is not a regular expression: {error}",
            where=where,
            fix="correct `from_name:`, as in ^(\\d+)_; a literal ( or . wants a backslash",
        ) from error
    if compiled.groups < 1:
        raise DataError(f"{pattern!r} has no group", where=where, fix="put parentheses round the label: ^(\\d+)_")
    matches = [compiled.search(name) or compiled.search(name.rsplit("/", 1)[-1]) for name in names]
    for name, match in zip(names, matches, strict=True):
        if match is None or match.group(1) is None:
            raise DataError(f"the name {name!r} does not match {pattern!r}", where=where, fix="correct from_name")
    texts = [match.group(1) for match in matches if match is not None]
    return np.array([int(text) for text in texts]) if all(map(_is_integer, texts)) else np.array(texts, dtype=object)


def read_labels(path: Path, spec: LabelSpec) -> np.ndarray:
    """Labels in a file of their own.

    Raises:
        DataError: it is missing, or is neither an array nor a table.
    """
    if not path.is_file():
        raise DataError("no such file of labels", where=str(path), fix="paths are relative to the data file")
    kind = path.suffix.lower()
    if kind == ".npz":
        stored = array_names(path)
        name = spec.array if spec.array is not None else "labels" if len(stored) != 1 else stored[0]
        return read_npz(path, str(name))
    if kind == ".npy":
        return np.asarray(read_npy(path))
    if kind == ".tsv":
        column: ColumnName = next((name for name in (spec.column, spec.array) if name is not None), 0)
        table: Table = read_table(path, isinstance(column, str), [column] if isinstance(column, int) else [])
        return table.column(column)
    if is_idx(path):
        return read_idx(path)
    raise DataError("is no file of labels that can be read", where=str(path), fix="give .npz, .npy, idx(.gz) or .tsv")


def finish(labels: np.ndarray, classes: Sequence[str] | None, count: int, where: str) -> np.ndarray:
    """Labels as numbers, one a record: class names become indices into ``classes``, ``[n, 1]`` becomes ``[n]``.

    Raises:
        DataError: their number differs from ``count``, or they are class names that ``classes`` does not list.
    """
    if labels.ndim == 0 or labels.shape[0] != count:
        raise DataError(
            f"{labels.shape[0] if labels.ndim else 1} labels for {count} samples",
            where=where,
            fix="name labels that go with this source, record by record",
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if is_text(labels.dtype):
        return _indices(labels, classes, where)
    if labels.dtype.kind == "f" and np.array_equal(labels, np.round(labels)):
        return labels.astype(np.int64)
    return labels.astype(np.int64) if labels.dtype.kind in "biu" else labels


def _indices(labels: np.ndarray, classes: Sequence[str] | None, where: str) -> np.ndarray:
    names = sorted({str(name) for name in labels.ravel()})
    if classes is None:
        few = ", ".join(names[:5])
        raise DataError(
            f"labels are text ({few}), and their order is not known",
            where=where,
            fix=f"add `classes: [{few}]` to labels, in the order of the model's outputs",
        )
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise DataError(f"label {unknown[0]!r} is none of classes", where=where, fix=f"classes: {list(classes)}")
    order = {name: at for at, name in enumerate(classes)}
    return np.array([order[str(name)] for name in labels.ravel()], np.int64).reshape(labels.shape)


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text) is not None
