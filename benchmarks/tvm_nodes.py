"""The node cases of the ONNX backend test-suite through the TVM backend: by its kernels, by TVM's loops, refused.

    python benchmarks/tvm_nodes.py [--only softmax gather] [--all] [--verbose]

Each case is compiled for this machine and compared with the results that come with it: floats to 1e-4 of the largest
number (1e-2 in half precision), everything else exactly. Without ``--all`` cases are left out whose operator is written
out in others, and those of types without kernels (casts, strings, sequences, optionals). A case ends as

    kernels   right, by kernels of our own alone        loops     right, some nodes by TVM's own loops
    refused   a node is named before anything is done   wrong     something else came out: there should be none
    crashed   native code died, in a process of its own: there should be none

It takes about a second a case.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# The folder of a script comes first in the search path, where tvm.py would hide the package of the same name.
sys.path.append(sys.path.pop(0))

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.tvm.artifact import LibraryOptions, write_library
from graphpress.backends.tvm.lowering.constants import fold_constants
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.processor import isa_of
from graphpress.cache import NO_CACHE
from graphpress.errors import GraphpressError
from graphpress.forked import CrashError, in_a_fork
from graphpress.ir import from_proto
from graphpress.runtime import CompiledModel
from graphpress.targets import load_target

LEFT_OUT = ("cast", "string", "sequence", "optional", "ai_onnx")
PRINTED = ("averagepool_2d_ceil_last_window_starts_on_pad", "gridsample_bicubic", "roialign_aligned_")
"""Cases whose results the suite gives to four digits."""


class Ending(NamedTuple):
    """How a case ends, and why."""

    kind: str
    why: str = ""


def main() -> int:
    """Print a line for each case that is not right, and how many end how."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the names of cases")
    parser.add_argument("--all", action="store_true", help="leave none out")
    parser.add_argument("--verbose", action="store_true", help="a line for each case")
    options = parser.parse_args()
    endings: Counter[str] = Counter()
    for name, case in _cases():
        chosen = options.all or not (name.startswith(LEFT_OUT) or "expanded" in name)
        if chosen and any(part in name for part in options.only):
            ending = _alone(name, case)
            endings[ending.kind] += 1
            if options.verbose or ending.why:
                print(f"{ending.kind:8} {name}: {ending.why}", flush=True)
    print(", ".join(f"{count} {kind}" for kind, count in sorted(endings.items())))
    return 1 if endings["wrong"] or endings["crashed"] else 0


def _cases() -> Iterator[tuple[str, Any]]:
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = sorted(collect_testcases(None), key=lambda case: case.name)
    return ((case.name.removeprefix("test_"), case) for case in collected if case.model is not None)


def _alone(name: str, case: Any) -> Ending:
    """How a case ends in a process of its own."""
    try:
        return in_a_fork(lambda: _ending(name, case))
    except (CrashError, RuntimeError) as error:
        return Ending("crashed", str(error))


def _ending(name: str, case: Any) -> Ending:
    inputs, outputs = ([_array(tensor) for tensor in tensors] for tensors in case.data_sets[0])
    if any(array is None for array in (*inputs, *outputs)):
        return Ending("refused", "it computes with other things than tensors")
    feed = dict(zip((value.name for value in case.model.graph.input), inputs, strict=False))
    model, fed = _with_constants(case.model, feed)
    try:
        results, generic = _results(model, fed)
    except GraphpressError as error:
        return Ending("refused", f"{error.where}: {error.what}")
    expected = dict(zip((value.name for value in case.model.graph.output), outputs, strict=True))
    wrong = [key for key, array in expected.items() if not _agree(results[key], array, name.startswith(PRINTED))]
    return Ending("wrong", ", ".join(wrong)) if wrong else Ending("loops" if generic else "kernels")


def _array(tensor: Any) -> np.ndarray | None:
    if isinstance(tensor, onnx.TensorProto):
        tensor = numpy_helper.to_array(tensor)
    return np.asarray(tensor) if isinstance(tensor, (np.ndarray, np.generic)) else None


def _with_constants(model: onnx.ModelProto, feed: Mapping[str, Any]) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model with the shapes of the feed, with integers and vectors behind the first input as constants."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    values = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in copy.graph.input]
    known = {
        value.name
        for value in values[1:]
        if (array := feed.get(value.name)) is not None and (array.dtype == np.int64 or array.ndim <= 1)
    }
    copy.graph.initializer.extend(numpy_helper.from_array(feed[name], name) for name in sorted(known))
    del copy.graph.input[:]
    for value in values:
        if value.name not in known:
            shape = value.type.tensor_type.shape
            del shape.dim[:]
            shape.SetInParent()
            for size in feed[value.name].shape:
                shape.dim.add().dim_value = size
            copy.graph.input.append(value)
    return copy, {value.name: feed[value.name] for value in copy.graph.input}


def _results(proto: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], bool]:
    """The outputs, and whether TVM's loops take part."""
    model = from_proto(proto)
    infer_shapes(model)
    fold_constants(model)
    isa = isa_of(load_target("cpu"))
    program = lower(model, isa)
    with tempfile.TemporaryDirectory() as folder:
        write_library(program, isa, Path(folder), NO_CACHE, LibraryOptions(batched=False))
        with CompiledModel(Path(folder), 1) as compiled:
            return compiled.run(feed), bool(program.generic)


def _agree(result: np.ndarray, expected: np.ndarray, printed: bool) -> bool:
    if result.shape != expected.shape or result.dtype != expected.dtype:
        return False
    if expected.dtype.kind != "f":
        return np.array_equal(result, expected)
    tolerance = 1e-2 if expected.dtype == np.float16 else 1e-3 if printed else 1e-4
    finite = expected[np.isfinite(expected)].astype(np.float64)
    scale = float(np.abs(finite).max(initial=1e-6))
    return np.allclose(result, expected, rtol=tolerance, atol=tolerance * scale / 10, equal_nan=True)


if __name__ == "__main__":
    sys.exit(main())
