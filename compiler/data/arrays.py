"""Arrays from files: .npy (memory-mapped), .npz (array by array) and idx, gzipped or not. Nothing is unpickled."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from graphpress.errors import DataError, did_you_mean

_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_BROKEN = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError)


def is_idx(path: Path) -> bool:
    """Whether the name is one that idx files go by: ``*-idx3-ubyte``, ``*.idx``, each also with ``.gz``."""
    stem = path.name.removesuffix(".gz")
    return stem.endswith((".idx", "ubyte")) or "-idx" in stem or ".idx" in stem


def array_names(path: Path) -> list[str]:
    """Names of the arrays in an .npz file, in its order.

    Raises:
        DataError: it is not one.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return list(archive.files)
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def read_npz(path: Path, name: str) -> np.ndarray:
    """One array of an .npz file.

    Raises:
        DataError: it is not there, or cannot be read without unpickling.
    """
    names = array_names(path)
    if name not in names:
        raise DataError(f"has no array {name!r}", where=str(path), fix=did_you_mean(name, names))
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[name])
    except _BROKEN as error:
        raise _unreadable(path, error, name) from error


def read_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, mapped rather than read.

    Raises:
        DataError: it cannot be read without unpickling.
    """
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError("is an .npz under another name", where=str(path), fix="rename it to end in .npz")
    return array


def read_idx(path: Path) -> np.ndarray:
    """The array of an idx file (http://yann.lecun.com/exdb/mnist, "the IDX file format"), gzipped or not.

    Raises:
        DataError: it is malformed or truncated.
    """
    try:
        with _open_idx(path) as file:
            return _parse_idx(file, path)
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _open_idx(path: Path) -> IO[bytes]:
    with path.open("rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]


def _parse_idx(file: IO[bytes], path: Path) -> np.ndarray:
    zero, code, rank = struct.unpack(">HBB", file.read(4))
    if zero != 0 or code not in _IDX_TYPES:
        raise DataError("is not an idx file", where=str(path), fix="its first bytes must be 0, 0, type, rank")
    shape = struct.unpack(f">{rank}I", file.read(4 * rank))
    dtype = np.dtype(_IDX_TYPES[code])
    wanted = math.prod(shape) * dtype.itemsize
    content = file.read(wanted)
    if len(content) != wanted:
        raise DataError(f"is truncated: {len(content)} of {wanted} bytes", where=str(path), fix="fetch it again")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _unreadable(path: Path, error: Exception, name: str = "") -> DataError:
    what = f"array {name!r}" if name else "the file"
    if any(word in str(error) for word in ("allow_pickle", "pickled", "Python objects")):
        return DataError(
            f"{what} holds Python objects, which are never unpickled",
            where=str(path),
            fix="save plain numbers or strings: np.asarray(x, dtype=...)",
        )
    return DataError(f"{what} cannot be read: {error}", where=str(path), fix="check that the file is complete")
