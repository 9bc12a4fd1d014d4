"""Large arrays of an .npz: their rows are read as they are asked for, and skipped where they are not.

An entry that is stored as it is has its rows at known places in the file; one that is compressed is decompressed from
its beginning, a little at a time, in each pass over the data.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from graphpress.data.arrays import npy_header, read_npz, reading
from graphpress.data.bounds import check_expansion, check_room
from graphpress.data.inputs import is_text
from graphpress.data.sources import ArraySource, Digest, Source, array_prefix
from graphpress.errors import DataError

WHOLE_BYTES = 1 << 24
"""An array of no more is read whole, once."""
_CHUNK_BYTES = 1 << 20
_LOCAL_HEADER = 30
"""Bytes of an entry's header in the file, before its name; the lengths of name and extra field end it."""


def npz_source(path: Path, name: str) -> Source:
    """The records along the first axis of an array in an .npz file.

    Raises:
        DataError: the array is not there, holds Python objects, has no axis, or expands to what cannot be data.
    """
    where = f"{path}:{name}"
    with reading(path, f"array {name!r}"):
        entry = _entry(path, name)
    if entry is not None and entry.nbytes > WHOLE_BYTES:
        check_expansion(entry.info.compress_size, entry.info.file_size, where)
        check_room(entry.row_bytes, where)
        return NpzSource(entry, where)
    array = read_npz(path, name)
    if array.ndim == 0:
        raise DataError("is a single value, where an array with one row a sample is wanted", where=where)
    return ArraySource(array, where)


@dataclass(frozen=True)
class _Entry:
    """An array of numbers in an .npz, its rows one after the other.

    Args:
        path: the file.
        info: what its directory says of the entry.
        shape, dtype: of the array.
        start: bytes of the entry before its first row.
    """

    path: Path
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one record."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], bytes]]:
        """A function that reads so many bytes from a place in the array."""
        with ExitStack() as stack:
            if self.info.compress_type == zipfile.ZIP_STORED:
                file: IO[bytes] = stack.enter_context(self.path.open("rb"))
                begin = _offset(file, self.info) + self.start
            else:
                file = stack.enter_context(stack.enter_context(zipfile.ZipFile(self.path)).open(self.info))
                begin = self.start

            def read(place: int, size: int) -> bytes:
                file.seek(begin + place)  # forward in a compressed entry it decompresses what is between; back, anew
                content = file.read(size)
                if len(content) != size:
                    raise EOFError(f"it ends {size - len(content)} bytes early")
                return content

            yield read


@dataclass(frozen=True)
class NpzSource:
    """Records along the first axis of a large array in an .npz file.

    Args:
        entry: where the array lies.
        where: for messages.
    """

    entry: _Entry
    where: str

    def __len__(self) -> int:
        return self.entry.shape[0]

    def place(self, index: int) -> str:
        """The array, and the row's number."""
        return f"{self.where}, record {index}"

    def records(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """The rows of these numbers."""
        entry = self.entry
        with entry.reader() as read:
            for index in indices:
                with reading(self.where):
                    content = read(index * entry.row_bytes, entry.row_bytes)
                yield np.frombuffer(content, entry.dtype).reshape(entry.shape[1:])

    def shapes(self, indices: Sequence[int]) -> list[tuple[int, ...]]:
        """Those of the rows: all the same."""
        return [self.entry.shape[1:]] * len(indices)

    def hash_into(self, digest: Digest) -> None:
        """Hash dtype, shape and values as of an array in memory; the archive's checksum is compared on the way."""
        digest.update(array_prefix(self.entry.dtype, self.entry.shape))
        with reading(self.where), zipfile.ZipFile(self.entry.path) as archive, archive.open(self.entry.info) as file:
            file.read(self.entry.start)
            left = self.entry.nbytes
            while left:
                content = file.read(min(left, _CHUNK_BYTES))
                if not content:
                    raise EOFError(f"it ends {left} bytes early")
                digest.update(content)
                left -= len(content)
            file.read()


def _entry(path: Path, name: str) -> _Entry | None:
    """Where an array lies; None where its rows cannot be read one by one, or it is not there."""
    with zipfile.ZipFile(path) as archive:
        info = next((info for info in archive.infolist() if info.filename == f"{name}.npy"), None)
        if info is None:
            return None
        with archive.open(info) as file:
            header = npy_header(file)
            start = file.tell()
    if header is None:
        return None
    shape, is_column_major, dtype = header
    entry = _Entry(path, info, shape, dtype, start)
    whole = not is_text(dtype) and not dtype.hasobject and start + entry.nbytes <= info.file_size
    return entry if whole and shape and not is_column_major else None


def _offset(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where the contents of an entry begin in the archive's file."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) != _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("an entry is not where the directory says")
    name, extra = (int.from_bytes(header[place : place + 2], "little") for place in (26, 28))
    return info.header_offset + _LOCAL_HEADER + name + extra
