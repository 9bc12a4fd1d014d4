"""The model of a run: a file, or a model in memory, which becomes a file for as long as the run needs one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from graphpress.errors import GraphpressError, ModelError, UsageError
from graphpress.ir import Model, clone, save
from graphpress.manager.manifest import FileRecord
from graphpress.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx

IN_MEMORY = "in memory"
"""What report and manifest call a model that came without a file."""

AnyModel: TypeAlias = "str | os.PathLike[str] | onnx.ModelProto | Model"


@dataclass(frozen=True)
class ModelFile:
    """A model file under the name that reports give it.

    Args:
        path: the file.
        name: its name, or that it is in memory.
    """

    path: Path
    name: str

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> ModelFile:
        """A file of the user's own."""
        return cls(Path(path), Path(path).name)

    def renamed(self, records: tuple[FileRecord, ...]) -> tuple[FileRecord, ...]:
        """The records of the model and its external data, the model's under the name that it has here."""
        return (replace(records[0], name=self.name), *records[1:])


@contextmanager
def opened(model: AnyModel) -> Iterator[ModelFile]:
    """The model as a file; one in memory is written to a scratch folder, and is not changed.

    Raises:
        ModelError: a message whose weights lie in files: it does not say in which folder.
        UsageError: it is no model and no path.
    """
    if isinstance(model, (str, os.PathLike)):
        yield ModelFile.at(model)
        return
    with scratch_folder() as scratch:
        file = ModelFile(_written(model, scratch / "model.onnx"), IN_MEMORY)
        try:
            yield file
        except GraphpressError as error:  # the user knows no such file
            texts = (error.what, error.where, error.fix)
            what, where, fix = (text.replace(str(file.path), file.name) for text in texts)
            raise type(error)(what, where=where, fix=fix) from error


def _written(model: onnx.ModelProto | Model, file: Path) -> Path:
    import onnx

    if isinstance(model, onnx.ModelProto):
        _check_whole(model)
        file.write_bytes(model.SerializeToString(deterministic=True))
    elif isinstance(model, Model):
        save(clone(model), file)
    else:
        raise UsageError(
            f"cannot be {type(model).__name__}",
            where="model",
            fix="give the path of an .onnx file, an onnx.ModelProto or an onnx_ir.Model",
        )
    return file


def _check_whole(proto: onnx.ModelProto) -> None:
    """Whether the message holds all of its weights."""
    from onnx.external_data_helper import uses_external_data

    elsewhere = [tensor.name for tensor in proto.graph.initializer if uses_external_data(tensor)]
    if elsewhere:
        raise ModelError(
            f"weights lie in files ({', '.join(elsewhere[:3])}), and a message does not say in which folder",
            where="model",
            fix="give the path of the model file, or load it with its external data (onnx.load(path))",
        )
