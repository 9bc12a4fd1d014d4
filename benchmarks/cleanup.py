"""Clean-up against the peers: nodes left and seconds taken, on PyTorch exports, and time against the size of a graph.

    python benchmarks/cleanup.py [--models densenet121,mobilenetv3_large_w1] [--repeat 3] [--cache DIR]

Needs torch, pytorchcv, onnxslim and onnxsim. Our seconds are the sum of the passes' own, without loading and
verification; the peers' are those of their one call on a loaded model (ONNX Runtime's: creating a session at the basic
level, which includes loading). Each figure is the best of the repetitions.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

import onnx

from graphpress.data import synthetic_samples
from graphpress.driver.prepare import prepare
from graphpress.ir import Model, clone, load
from graphpress.manager.contract import Context
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.recipe import from_text
from graphpress.models.chain import Chain
from graphpress.runtime import Session
from graphpress.targets import load_target

MODELS = ("densenet121", "mobilenetv3_large_w1", "nasnet_4a1056")
RECIPE = "cleanup,fuse"
CHAIN_SIZES = (4_000, 16_000, 64_000)


class _Torchvision:
    """Stands in for torchvision, which pytorchcv imports for transforms and detectors that are not used here."""

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


def ours(model: Model) -> tuple[int, float]:
    """Nodes and seconds of the whole recipe, as the manager runs it, until nothing changes."""
    model = clone(model)
    prepare(model, {})
    feeds = tuple(synthetic_samples(Session(model).inputs, 1))
    manager = Manager(Context(load_target("cpu"), model), NoEvaluator(), feeds, verification="none")
    run = manager.run(model, from_text(RECIPE))
    return len(run.checkpoints[-1].model.graph), sum(pass_run.seconds for pass_run in run.pass_runs)


def onnxslim(proto: onnx.ModelProto) -> tuple[int, float]:
    import onnxslim

    start = time.perf_counter()
    slim = onnxslim.slim(proto)
    return len(slim.graph.node), time.perf_counter() - start


def onnxsim(proto: onnx.ModelProto) -> tuple[int, float]:
    import onnxsim

    start = time.perf_counter()
    simple, _ = onnxsim.simplify(proto)
    return len(simple.graph.node), time.perf_counter() - start


def ort_basic(proto: onnx.ModelProto) -> tuple[int, float]:
    with tempfile.TemporaryDirectory() as folder:
        source, file = Path(folder) / "model.onnx", Path(folder) / "basic.onnx"
        onnx.save(proto, source)
        start = time.perf_counter()
        Session(source, optimization="basic", optimized_path=file)
        return len(onnx.load(file).graph.node), time.perf_counter() - start


def best(measure: Callable[[], tuple[int, float]], repeat: int) -> tuple[int, float]:
    runs = [measure() for _ in range(repeat)]
    return runs[0][0], min(seconds for _, seconds in runs)


def compare(names: Sequence[str], folder: Path, repeat: int) -> None:
    print(
        f"{'model':<22}{'before':>8}" + "".join(f"{peer:>18}" for peer in ("ours", "onnxslim", "onnxsim", "ort basic"))
    )
    for name in names:
        file = export(name, folder)
        proto = onnx.load(file)
        results = [
            best(lambda file=file: ours(load(file)), repeat),
            *(
                best(lambda peer=peer, file=file: peer(onnx.load(file)), repeat)
                for peer in (onnxslim, onnxsim, ort_basic)
            ),
        ]
        cells = "".join(f"{nodes:>8} {seconds:>7.3f} s" for nodes, seconds in results)
        print(f"{name:<22}{len(proto.graph.node):>8}{cells}", flush=True)


def linearity(repeat: int) -> None:
    print(f"\n{'chain of':<22}{'nodes after':>12}{'seconds':>10}{'µs a node':>12}")
    for size in CHAIN_SIZES:
        chain = Chain(nodes=size).build()
        nodes, seconds = best(lambda chain=chain: ours(clone(chain)), repeat)
        print(f"{size:<22}{nodes:>12}{seconds:>10.2f}{seconds / size * 1e6:>12.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="pytorchcv names, separated by commas")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="where exports are kept; a temporary folder by default")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        compare([name for name in options.models.split(",") if name], options.cache or Path(scratch), options.repeat)
    linearity(options.repeat)


if __name__ == "__main__":
    main()
