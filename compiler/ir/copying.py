"""Model files copied as they are, with the data beside them under the names that they refer to."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from graphpress.errors import ModelError

DELIVERED = "model.onnx"
"""What a delivered model file is called."""


def copy_model(files: Sequence[Path], folder: Path, taken: Collection[str] = ()) -> list[Path]:
    """Copy a model file as ``folder/model.onnx``, and what lies beside it under the names that it refers to.

    Args:
        files: the model file, then its external data.
        folder: where to.
        taken: names of other files that the folder will hold.

    Raises:
        ModelError: the data are called like one of these, or like the model.
    """
    root = files[0].parent
    check_data_names((file.relative_to(root) for file in files[1:]), (DELIVERED, *taken))
    places = [folder / DELIVERED, *(folder / file.relative_to(root) for file in files[1:])]
    for file, place in zip(files, places, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    return places


def check_data_names(names: Iterable[Path], taken: Collection[str]) -> None:
    """Whether files of external data can lie in a folder that holds these others.

    Raises:
        ModelError: they cannot.
    """
    for name in names:
        if name.parts[0] in taken:
            raise ModelError(
                f"its weights lie in {name.as_posix()!r}, and a file of the result is called {name.parts[0]}",
                where="external data",
                fix="save the model with its weights under another name (onnx.save with location=)",
            )
