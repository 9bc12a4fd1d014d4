"""What goes with a library to its board: programs that check and time it, golden samples, a page with the commands.

    verify, bench         programs for the board; board/ has their sources
    golden/N/input-K.bin  sample N: input and output K as they lie in memory; its open sizes in sizes.bin
    README.md             the commands

Golden outputs are the library's own, as an emulator computes them: the same instructions give the same bits on the
board. Where there is no emulator, they are those of ONNX Runtime, which adds in another order.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphpress.backends.tvm.board.programs import build_program, template, write_sources
from graphpress.backends.tvm.board.served import ServedModel
from graphpress.backends.tvm.codegen.isa import Isa
from graphpress.backends.tvm.toolchain import find_c_toolchain
from graphpress.data import Feed
from graphpress.data.inputs import is_floating
from graphpress.errors import ModelError
from graphpress.ir import Model
from graphpress.printable import printable
from graphpress.runtime import Infer, Session
from graphpress.runtime.compiled import Description, batch_of, read_description, sizes_of
from graphpress.targets import Target

MAX_SAMPLES = 4
SAME, NEAR, FAR = 1e-6, 0.01, 0.5
"""Relative distances: of the same instructions; of rounding, where nothing was quantized; and the most that passes."""
EQUAL = 1e-6
"""Numbers that differ by no more are equal: functions such as a sigmoid leave as much of what is almost zero."""
FILES = {
    "model.onnx": "the same model for ONNX Runtime",
    "libmodel.so": "the library",
    "libmodel.a": "the same to link into a program",
    "weights.bin": "the weights, which the library reads",
    "model.h": "its functions, and names, shapes and types",
    "model.json": "the same facts for programs",
    "examples": "programs in C and C++ to begin with, which CMake builds",
    "verify": "checks the library on the board",
    "bench": "times it there",
    "board": "sources of the two",
    "golden": "samples, and the outputs that are expected",
}


@dataclass(frozen=True)
class BoardBundle:
    """Everything that goes into the folder.

    Args:
        target: the board.
        isa: for which the library was compiled.
        annotated: the model in floats.
        simulation: computes in ONNX Runtime what the library computes.
        samples: a few feeds.
        threads: that compute here.
    """

    target: Target
    isa: Isa
    annotated: Model
    simulation: Model
    samples: Sequence[Mapping[str, np.ndarray]]
    threads: int = 1


@dataclass(frozen=True)
class WrittenBundle:
    """What was written.

    Args:
        files: in the folder.
        note: what was checked here, and how.
    """

    files: list[Path]
    note: str


def write_bundle(folder: Path, bundle: BoardBundle, served: ServedModel | None) -> WrittenBundle:
    """Write what goes with the library that lies in the folder already.

    Args:
        folder: with the files of the library.
        bundle: what else goes there.
        served: runs the library; None where nothing here can.

    Raises:
        BackendError: the C compiler fails, or the library does in its emulator.
        ModelError: the library's outputs are not those of the model.
    """
    description = read_description(folder)
    feeds = _single(bundle.samples, description)
    reference, floats = (
        _answers(Session(model, threads=bundle.threads).run, feeds) for model in (bundle.simulation, bundle.annotated)
    )
    outputs = reference if served is None else _answers(served.run, feeds)
    bound = _bound(reference, floats)
    note = _note(served, _checked(outputs, reference, bound)) if feeds else "There were no samples to check it on."
    programs = _write_programs(folder, bundle, bound if served is None else SAME)
    files = [*_write_golden(folder, description, feeds, outputs), *programs]
    page = folder / "README.md"
    page.write_text(_page(folder, bundle, description, note), encoding="utf-8")
    return WrittenBundle([*files, page], note)


def _single(samples: Sequence[Mapping[str, np.ndarray]], description: Description) -> list[Feed]:
    """The first samples one by one."""
    return list(
        itertools.islice(itertools.chain.from_iterable(_parts(feed, description) for feed in samples), MAX_SAMPLES)
    )


def _parts(feed: Mapping[str, np.ndarray], description: Description) -> list[Feed]:
    tensors = description.inputs
    arrays = [np.ascontiguousarray(feed[tensor.name], tensor.dtype) for tensor in tensors]
    if not description.batched:
        return [{tensor.name: array for tensor, array in zip(tensors, arrays, strict=True)}]
    return [
        {
            tensor.name: array[number * tensor.shape[0] : (number + 1) * tensor.shape[0]]
            for tensor, array in zip(tensors, arrays, strict=True)
        }
        for number in range(batch_of(arrays, tensors))
    ]


def _answers(infer: Infer, feeds: Sequence[Feed]) -> list[Feed]:
    return [dict(infer(feed)) for feed in feeds]


def _bound(reference: Sequence[Feed], floats: Sequence[Feed]) -> float:
    """How far outputs may be from ONNX Runtime's: twice what the compression itself has moved, for a sum that rounds
    otherwise may come to lie on the next code.
    """
    return min(max(2 * _moved(floats, reference), NEAR), FAR)


def _checked(outputs: Sequence[Feed], reference: Sequence[Feed], bound: float) -> float:
    """How far the library's outputs are from ONNX Runtime's.

    Raises:
        ModelError: too far.
    """
    distance = _moved(outputs, reference)
    if not distance <= bound:
        what = f"its outputs are {distance:.2g} away from those of the model, relative to their size"
        raise ModelError(what, where="libmodel.so", fix="use --backend onnxruntime, and report the model")
    return distance


def _moved(outputs: Sequence[Feed], reference: Sequence[Feed]) -> float:
    """The largest relative distance of an output of floats over all samples."""
    names = [name for name, array in (reference[0] if reference else {}).items() if is_floating(array.dtype)]
    return max((_distance(*(_joined(each, name) for each in (outputs, reference))) for name in names), default=0.0)


def _joined(samples: Sequence[Feed], name: str) -> np.ndarray:
    return np.concatenate([sample[name].ravel() for sample in samples]).astype(np.float64)


def _distance(array: np.ndarray, reference: np.ndarray) -> float:
    usable = np.isfinite(array) & np.isfinite(reference)
    if not np.array_equal(array[~usable], reference[~usable], equal_nan=True):
        return float("inf")
    norm, difference = float(np.linalg.norm(reference[usable])), array[usable] - reference[usable]
    moved = float(np.linalg.norm(difference[np.abs(difference) > EQUAL]))
    return moved / norm if norm else float(moved > 0)


def _note(served: ServedModel | None, distance: float) -> str:
    if served is None:
        return "Nothing here runs it: install qemu-user-static to have it checked before it goes to the board."
    near = "equal to" if distance == 0 else f"within {distance:.1g} of"
    return f"Its outputs on {served.place} are {near} those of ONNX Runtime."


def _write_golden(
    folder: Path, description: Description, feeds: Sequence[Feed], outputs: Sequence[Mapping[str, np.ndarray]]
) -> list[Path]:
    files = []
    for number, (feed, output) in enumerate(zip(feeds, outputs, strict=True)):
        place = folder / "golden" / str(number)
        place.mkdir(parents=True, exist_ok=True)
        if description.sizes:
            files.append(place / "sizes.bin")
            files[-1].write_bytes(_sizes(feed, description).tobytes())
        parts = (("input", description.inputs, feed), ("output", description.outputs, output))
        for which, tensors, arrays in parts:
            for index, tensor in enumerate(tensors):
                files.append(place / f"{which}-{index}.bin")
                files[-1].write_bytes(np.ascontiguousarray(arrays[tensor.name], tensor.dtype).tobytes())
    return files


def _sizes(feed: Feed, description: Description) -> np.ndarray:
    """The open sizes of a sample, in the order of the header."""
    sizes = sizes_of([feed[tensor.name] for tensor in description.inputs], description.inputs)
    return np.array([sizes[size.name] for size in description.sizes], np.int32)


def _write_programs(folder: Path, bundle: BoardBundle, bound: float) -> list[Path]:
    sources, toolchain = folder / "board", find_c_toolchain(bundle.isa.triple)
    sources.mkdir(exist_ok=True)
    files = write_sources(["verify", "bench"], read_description(folder), sources, bound, EQUAL)
    return [*files, *(build_program(name, sources, folder, toolchain, folder) for name in ("verify", "bench"))]


def _page(folder: Path, bundle: BoardBundle, description: Description, note: str) -> str:
    toolchain = find_c_toolchain(bundle.isa.triple)
    return template("README.md.j2").render(
        name=printable(description.name),
        prefix=description.prefix,
        target=printable(bundle.target.canonical_name),
        processor=bundle.isa.processor,
        isa=bundle.isa.name,
        checked=note,
        linking="static" if toolchain.links_statically else "dynamically linked",
        files=[(name, what) for name, what in FILES.items() if (folder / name).exists()],
    )
