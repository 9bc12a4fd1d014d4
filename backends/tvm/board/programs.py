"""The C programs around a compiled model: what checks and times it on a board, and what runs it for this compiler."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from graphpress.backends.tvm.artifact import ARCHIVE
from graphpress.backends.tvm.c_names import string
from graphpress.backends.tvm.toolchain import CToolchain
from graphpress.runtime.compiled import Description, TensorInfo

if TYPE_CHECKING:
    import jinja2

Name = Literal["bench", "serve", "verify"]
SHARED = "board.h"


def write_sources(
    names: Sequence[Name], description: Description, folder: Path, bound: float = 0.0, equal: float = 0.0
) -> list[Path]:
    """Write the sources of programs, and what they share.

    Args:
        names: of the programs.
        description: of the model.
        folder: where they are written.
        bound: relative distance from the golden outputs that ``verify`` lets pass.
        equal: absolute distance of numbers that it does not tell apart.
    """
    words = {
        "prefix": description.prefix,
        "isa": description.isa,
        "weights_inside": description.weights_inside,
        "inputs": [_words(tensor) for tensor in description.inputs],
        "outputs": [_words(tensor) for tensor in description.outputs],
        "sizes": len(description.sizes),
        "bound": repr(bound),
        "equal": repr(equal),
    }
    files = [folder / SHARED, *(folder / f"{name}.c" for name in names)]
    for file in files:
        file.write_text(template(f"{file.name}.j2").render(words), encoding="utf-8")
    return files


def build_program(name: Name, sources: Path, model: Path, toolchain: CToolchain, out: Path) -> Path:
    """Compile a program, and link it with its model.

    Args:
        name: of the program.
        sources: the folder of ``write_sources``.
        model: the folder with the model's archive and header.
        toolchain: of the board.
        out: the folder for the program.

    Raises:
        BackendError: the compiler fails.
    """
    program = out / name
    static = ["-static"] if toolchain.links_statically else []
    places = ["-I", str(model.resolve()), "-o", str(program.resolve())]
    flags = ["-std=gnu11", "-O2", "-s", *static, "-pthread", *places]
    toolchain.run([*flags, f"{name}.c", (model / ARCHIVE).resolve(), "-lm"], sources)
    return program


@cache
def template(name: str) -> jinja2.Template:
    """One of the templates beside this module; an undefined name is an error."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((resources.files(__package__) / name).read_text(encoding="utf-8"))


def _words(tensor: TensorInfo) -> dict[str, Any]:
    return {"literal": string(tensor.name), "kind": "b" if tensor.dtype == bool else tensor.dtype.char}
