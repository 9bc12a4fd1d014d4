"""Clean-up against the peers: nodes left and seconds taken, on PyTorch exports.

    python benchmarks/cleanup.py [--models densenet121,mobilenetv3_large_w1] [--repeat 9] [--cache DIR]

Needs torch, pytorchcv, onnxslim and onnxsim. Every figure is the median of the repetitions, in which all take turns on
a model read anew; ONNX Runtime's is the time to create a session at the basic level. "In memory" leaves out the
conversion from and to a message, which a longer pipeline pays once and not for each of its stages.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path
from statistics import median

import onnx

from graphpress.data import synthetic_samples
from graphpress.ir import Model, from_proto, to_proto
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.recipe import from_text
from graphpress.runtime import Session
from graphpress.targets import load_target

MODELS = ("densenet121", "mobilenetv3_large_w1", "nasnet_4a1056")


class _Torchvision:
    """A substitute for torchvision, which pytorchcv imports for transforms and detectors that are not used here."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, _Torchvision, is_package=True) if name.split(".")[0] == "torchvision" else None

    @staticmethod
    def create_module(spec: ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    @staticmethod
    def exec_module(module: types.ModuleType) -> None:
        module.__path__ = []


class _Empty(types.ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def export(name: str, folder: Path) -> Path:
    """Export a pytorchcv model with random weights, once."""
    file = folder / f"{name}.onnx"
    if file.exists():
        return file
    sys.meta_path.append(_Torchvision)
    import torch
    from pytorchcv.model_provider import get_model

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(get_model(name).eval(), (torch.zeros(1, 3, 224, 224),), str(file), dynamo=False)
    return file


@dataclass(frozen=True)
class Sample:
    """One call: nodes left, wall-clock seconds, and seconds of the processor (which other work does not lengthen)."""

    nodes: int
    wall: float
    processor: float


def clock(work: Callable[[], int]) -> Sample:
    """Time a call that returns a number of nodes; what those before it left behind is not collected at its expense."""
    gc.collect()
    wall, processor = time.perf_counter(), time.process_time()
    nodes = work()
    return Sample(nodes, time.perf_counter() - wall, time.process_time() - processor)


def clean(model: Model, recipe: str, checked: bool = False) -> Model:
    """Run the recipe until nothing changes, as `optimize` does; checked: outputs compared on two made-up samples."""
    feeds = tuple(islice(synthetic_samples(Session(model).inputs, 1), 2)) if checked else ()
    manager = Manager(Context(load_target("cpu"), model), NoEvaluator(), feeds, "final" if checked else "none")
    return manager.run(model, from_text(recipe)).checkpoints[-1].model


def manager_alone(proto: onnx.ModelProto, recipe: str) -> Sample:
    """From a model in memory to the clean one: the copy, the passes and the structural check."""
    model = from_proto(proto)
    return clock(lambda: len(clean(model, recipe).graph))


def proto_to_proto(proto: onnx.ModelProto, recipe: str, checked: bool = False) -> Sample:
    """From a message to a message, as the peers work."""
    return clock(lambda: len(to_proto(clean(from_proto(proto), recipe, checked)).graph.node))


def onnxsim(proto: onnx.ModelProto, checks: int = 0) -> Sample:
    import onnxsim

    return clock(lambda: len(onnxsim.simplify(proto, check_n=checks)[0].graph.node))


def onnxslim(proto: onnx.ModelProto) -> Sample:
    import onnxslim

    return clock(lambda: len(onnxslim.slim(proto).graph.node))


def ort_basic(proto: onnx.ModelProto) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        source, file = Path(folder) / "model.onnx", Path(folder) / "basic.onnx"
        onnx.save(proto, source)
        sample = clock(lambda: len(Session(source, optimization="basic", optimized_path=file).inputs))
        return replace(sample, nodes=len(onnx.load(file, load_external_data=False).graph.node))


COMPETITORS: dict[str, Callable[[onnx.ModelProto], Sample]] = {
    "cleanup, in memory": partial(manager_alone, recipe="cleanup"),
    "cleanup": partial(proto_to_proto, recipe="cleanup"),
    "cleanup,fuse, in memory": partial(manager_alone, recipe="cleanup,fuse"),
    "cleanup,fuse": partial(proto_to_proto, recipe="cleanup,fuse"),
    "onnxsim": onnxsim,
    "onnxslim": onnxslim,
    "ONNX Runtime basic": ort_basic,
    "cleanup,fuse, checked": partial(proto_to_proto, recipe="cleanup,fuse", checked=True),
    "onnxsim, checked": partial(onnxsim, checks=2),
}


def compare(names: Sequence[str], folder: Path, repeat: int) -> None:
    for name in names:
        file = export(name, folder)
        print(f"\n{name}, {len(onnx.load(file).graph.node)} nodes\n{'':<26}{'nodes':>6}{'wall':>10}{'processor':>11}")
        samples: dict[str, list[Sample]] = {competitor: [] for competitor in COMPETITORS}
        for _ in range(repeat):
            for competitor, measure in COMPETITORS.items():
                samples[competitor].append(measure(onnx.load(file)))
        for competitor, measured in samples.items():
            wall, processor = (median(getattr(sample, unit) for sample in measured) for unit in ("wall", "processor"))
            print(f"{competitor:<26}{measured[0].nodes:>6}{wall:>8.3f} s{processor:>9.3f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="pytorchcv names, separated by commas")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--cache", type=Path, help="where exports are kept; a temporary folder by default")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        compare([name for name in options.models.split(",") if name], options.cache or Path(scratch), options.repeat)


if __name__ == "__main__":
    main()
