"""Sources: numbered records, read as they are asked for.

A source of images holds file names and decodes image by image, so memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from graphpress.data.arrays import reading
from graphpress.data.bounds import check_expansion, check_room
from graphpress.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class Digest(Protocol):
    """A running hash, as hashlib makes them."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        ...


class Source(Protocol):
    """Numbered records of one kind."""

    @property
    def where(self) -> str:
        """The file, and the array in it, for messages."""
        ...

    def __len__(self) -> int: ...

    def place(self, index: int) -> str:
        """Where the record of this number is, for messages."""
        ...

    def records(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """The records of these numbers, in this order."""
        ...

    def shapes(self, indices: Sequence[int]) -> list[tuple[int, ...]]:
        """The shapes of these records, found without reading what they hold."""
        ...

    def hash_into(self, digest: Digest) -> None:
        """Feed the content to a hash."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """Records along the first axis of an array, which may be memory-mapped.

    Args:
        array: ``[records, ...]``.
        where: for messages.
    """

    array: np.ndarray
    where: str

    def __len__(self) -> int:
        return int(self.array.shape[0])

    def place(self, index: int) -> str:
        """The array, and the row's number."""
        return f"{self.where}, record {index}"

    def records(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """The rows of these numbers."""
        for index in indices:
            yield np.asarray(self.array[index])

    def shapes(self, indices: Sequence[int]) -> list[tuple[int, ...]]:
        """Those of the rows: all the same."""
        return [self.array.shape[1:]] * len(indices)

    def hash_into(self, digest: Digest) -> None:
        """Hash dtype, shape and values, a slab at a time."""
        hash_array(self.array, digest)


@dataclass(frozen=True)
class ImageSource:
    """Images of a folder or zip, in sorted order of their relative paths.

    Args:
        path: the folder or zip file.
        names: relative paths with forward slashes, sorted.
        mode: what Pillow converts each to: ``RGB``, ``L`` or ``RGBA``.
    """

    path: Path
    names: tuple[str, ...]
    mode: str

    @property
    def where(self) -> str:
        """The folder or zip."""
        return str(self.path)

    def __len__(self) -> int:
        return len(self.names)

    def place(self, index: int) -> str:
        """The image's own path."""
        return f"{self.path}/{self.names[index]}"

    def records(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Decoded images, ``[height, width, channels]`` of uint8."""
        with _opened(self.path) as read:
            for index in indices:
                yield decode(read(self.names[index]), self.mode, self.place(index))

    def digests(self, indices: Sequence[int]) -> Iterator[bytes]:
        """A hash of each image's file."""
        with _opened(self.path) as read:
            for index in indices:
                yield hashlib.sha256(read(self.names[index])).digest()

    def shapes(self, indices: Sequence[int]) -> list[tuple[int, ...]]:
        """Those of the decoded images, from the heads of their files."""
        with _opened(self.path) as read:
            return [(*size_of(read(self.names[index]), self.place(index)), len(self.mode)) for index in indices]

    def hash_into(self, digest: Digest) -> None:
        """Hash names and bytes of all images."""
        with _opened(self.path) as read:
            for name in self.names:
                digest.update(name.encode() + b"\0" + hashlib.sha256(read(name)).digest())


def image_names(path: Path) -> tuple[str, ...]:
    """Relative paths of the images in a folder or zip, sorted; files of other kinds and hidden ones don't count.

    Raises:
        DataError: it cannot be read, or holds no image.
    """
    with reading(path):
        files = _files_in(path)
    names = tuple(sorted(name for name in files if _is_image(name)))
    if not names:
        raise DataError("holds no images", where=str(path), fix=f"images end in {', '.join(IMAGE_SUFFIXES)}")
    return names


def decode(content: bytes, mode: str, where: str) -> np.ndarray:
    """An image file as ``[height, width, channels]`` of uint8.

    Raises:
        DataError: the bytes are not an image that Pillow can decode, or one of more pixels than it takes for an image.
    """
    with _image(content, where) as image:
        pixels = np.asarray(image.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def size_of(content: bytes, where: str) -> tuple[int, int]:
    """Height and width of an image file.

    Raises:
        DataError: the bytes do not begin like an image.
    """
    with _image(content, where) as image:
        return image.height, image.width


@contextmanager
def _image(content: bytes, where: str) -> Iterator[Image.Image]:
    """An image file as Pillow opens it, which reads its head."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                yield image
    except Exception as error:  # a malformed image makes Pillow's decoders raise nearly anything
        raise DataError(f"is not a readable image: {error}", where=where, fix="replace or remove it") from error


def array_prefix(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What is hashed of an array before its values."""
    return f"{dtype.str}{shape}".encode()


def hash_array(array: np.ndarray, digest: Digest) -> None:
    """Feed dtype, shape and values of an array to a hash, a slab at a time."""
    digest.update(array_prefix(array.dtype, array.shape))
    if array.dtype.kind == "O":
        digest.update(repr(array.tolist()).encode())
        return
    rows = array.reshape(1) if array.ndim == 0 else array
    step = max(1, (1 << 24) // max(1, rows[:1].nbytes))
    for start in range(0, rows.shape[0], step):
        digest.update(rows[start : start + step].tobytes())


@contextmanager
def _opened(path: Path) -> Iterator[Callable[[str], bytes]]:
    """A reader of the files in a folder or zip."""
    with reading(path):
        archive = None if path.is_dir() else zipfile.ZipFile(path)

    def read(name: str) -> bytes:
        with reading(f"{path}/{name}"):
            if archive is None:
                return (path / name).read_bytes()
            info = archive.getinfo(name)
            check_expansion(info.compress_size, info.file_size, f"{path}/{name}")
            check_room(info.file_size, f"{path}/{name}")
            return archive.read(info)

    try:
        yield read
    finally:
        if archive is not None:
            archive.close()


def _files_in(path: Path) -> list[str]:
    if path.is_dir():
        return [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _is_image(name: str) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return not hidden and name.lower().endswith(IMAGE_SUFFIXES)
