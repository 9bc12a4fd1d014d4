"""Arrays from files: .npy (memory-mapped), .npz (array by array) and idx, gzipped or not. Nothing is unpickled."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from graphpress.data.bounds import check_expansion, check_room
from graphpress.errors import DataError, did_you_mean

_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def is_idx(path: Path) -> bool:
    """Whether the name is one that idx files go by: ``*-idx3-ubyte``, ``*.idx``, each also with ``.gz``."""
    stem = path.name.removesuffix(".gz")
    return stem.endswith((".idx", "ubyte")) or "-idx" in stem or ".idx" in stem


def array_names(path: Path) -> list[str]:
    """Names of the arrays in an .npz file, in its order.

    Raises:
        DataError: it is not one.
    """
    with reading(path), np.load(path, allow_pickle=False) as archive:
        return list(archive.files)


def read_npz(path: Path, name: str) -> np.ndarray:
    """One array of an .npz file.

    Raises:
        DataError: it is not there, or cannot be read without unpickling.
    """
    names = array_names(path)
    if name not in names:
        raise DataError(f"has no array {name!r}", where=str(path), fix=did_you_mean(name, names))
    where = f"{path}:{name}"
    with reading(path, f"array {name!r}"):
        _check_entry(path, name, where)
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[name])


def _check_entry(path: Path, name: str, where: str) -> None:
    """Whether an array is of the size that the archive says, and may be read whole: asked of its header alone."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        info = entries[name]
        check_expansion(info.compress_size, info.file_size, where)
        with archive.open(info) as file:
            header = npy_header(file)
    if header is None:
        return
    shape, _, dtype = header
    wanted = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and wanted > info.file_size:
        raise DataError(f"is truncated: {info.file_size} of {wanted} bytes", where=where, fix="write the file again")
    check_room(wanted, where)


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype] | None:
    """Shape, whether columns are contiguous, and type of an array; None of one with names of fields beyond Latin-1."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file) if version == (2, 0) else None


def read_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, mapped rather than read.

    Raises:
        DataError: it cannot be read without unpickling.
    """
    with reading(path):
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError("is an .npz under another name", where=str(path), fix="rename it to end in .npz")
    return array


def read_idx(path: Path) -> np.ndarray:
    """The array of an idx file (http://yann.lecun.com/exdb/mnist, "the IDX file format"), gzipped or not.

    Raises:
        DataError: it is malformed or truncated.
    """
    with reading(path), _open_idx(path) as file:
        return _parse_idx(file, path)


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
    check_expansion(path.stat().st_size, wanted, str(path))
    check_room(wanted, str(path))
    content = file.read(wanted)
    if len(content) != wanted:
        raise DataError(f"is truncated: {len(content)} of {wanted} bytes", where=str(path), fix="fetch it again")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


@contextmanager
def reading(where: Path | str, what: str = "the file") -> Iterator[None]:
    """Whatever a parser or decompressor says of malformed bytes becomes one error about the file.

    Raises:
        DataError: the block raised anything at all.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # numpy's header parser and zipfile raise a dozen kinds
        raise _unreadable(str(where), what, error) from error


def _unreadable(where: str, what: str, error: Exception) -> DataError:
    if any(word in str(error) for word in ("allow_pickle", "pickled", "Python objects")):
        return DataError(
            f"{what} holds Python objects, which are never unpickled",
            where=where,
            fix="save plain numbers or strings: np.asarray(x, dtype=...)",
        )
    reason = str(error) or type(error).__name__
    return DataError(f"{what} cannot be read: {reason}", where=where, fix="check that the file is complete")
