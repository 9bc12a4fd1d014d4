"""Build the engine of this folder through TensorRT's Python package; ``build.sh`` does so where trtexec is missing.

Needs Python 3.8, and no other package. What this TensorRT can do is read off its module, name by name.
"""

import os  # like sys loaded before any script, so that no file takes their place; __future__ is not
import sys

if os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__)):
    del sys.path[0]  # nothing in this folder takes another module's place: a model's weights may be called numpy.py

import argparse
import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
BUILT, FAILED, CANNOT, NO_TENSORRT = 0, 1, 3, 5


class CannotBuildError(Exception):
    """The TensorRT at hand cannot build this way; the message says why."""


def main() -> int:
    """Build and return the exit status."""
    parser = argparse.ArgumentParser(description="Build the engine of this folder through TensorRT's Python package.")
    try:
        expected = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"expected.json cannot be read ({error}): copy the folder again")
    ways = list(expected["ways"])
    parser.add_argument("--way", choices=ways, default=ways[0], help="default: %(default)s")
    parser.add_argument("--core", type=int, default=0, help="number of the deep learning accelerator")
    parser.add_argument("--capability", help="build ahead of time for a GPU of this compute capability, such as 8.6")
    parser.add_argument("--dry-run", action="store_true", help="say what would be built")
    options = parser.parse_args()
    name, way = options.way, expected["ways"][options.way]
    print(printable(f"{expected['product']} builds {way['plan']} of {way['model']} (way: {name})"))
    if options.dry_run:
        return BUILT
    try:
        trt = __import__(expected["product"])
    except ImportError as error:
        print(printable(f"build_engine.py: {error}"), file=sys.stderr)
        return NO_TENSORRT
    try:
        plan, layers, cache = build(trt, expected, way, options)
    except CannotBuildError as error:
        print(printable(f"build_engine.py: {error}"), file=sys.stderr)
        return CANNOT
    if plan is None:
        print("build_engine.py: TensorRT could not build it", file=sys.stderr)
        return FAILED
    built = {"way": name, "plan": way["plan"], "layers": "layers.json", "tensorrt": trt.__version__}
    place("layers.json", layers)
    place("timing.cache", cache)
    place(way["plan"], plan)
    place("built.json", json.dumps(built).encode())
    return BUILT


def build(trt: Any, expected: Any, way: Any, options: Any) -> Any:
    """The engine (None where TensorRT fails), its layers and the timing cache, as bytes; None where there is none."""
    logger = trt.Logger(trt.Logger.WARNING)
    if hasattr(trt, "init_libnvinfer_plugins"):
        trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    network = builder.create_network(creation_flags(trt, way))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(FOLDER / way["model"])) or not network.num_outputs:
        for index in range(parser.num_errors):
            print(printable(str(parser.get_error(index))), file=sys.stderr)
        return None, None, None
    config = builder.create_builder_config()
    set_types(trt, config, way)
    set_options(trt, config, expected, options.capability)
    if way["calibration"]:
        keep = calibrate(trt, config, way, options.core)  # noqa: F841  (TensorRT does not hold on to it)
    add_profile(builder, config, expected["profile"], fixed=bool(way["calibration"]))
    cache = use_timing_cache(config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return None, None, None
    return (
        bytes(plan),
        inspect(trt, logger, plan, expected["profile"]),
        None if cache is None else bytes(cache.serialize()),
    )


def creation_flags(trt: Any, way: Any) -> int:
    """The flags of the network. Their numbers differ between versions; where one is gone, there is no other way."""
    known = trt.NetworkDefinitionCreationFlag
    flags = 0
    if hasattr(known, "EXPLICIT_BATCH"):
        flags |= 1 << int(known.EXPLICIT_BATCH)
    if way["strong"] and hasattr(known, "STRONGLY_TYPED"):
        flags |= 1 << int(known.STRONGLY_TYPED)
    elif way["strong"] and hasattr(trt.BuilderFlag, "FP16"):
        raise CannotBuildError(f"TensorRT {trt.__version__} has no strongly typed networks")
    return flags


def set_types(trt: Any, config: Any, way: Any) -> None:
    """Allow the types of a weakly typed network."""
    for name in way["flags"]:
        flag = getattr(trt.BuilderFlag, name, None)
        if flag is None:
            raise CannotBuildError(f"TensorRT {trt.__version__} has no flag {name}")
        config.set_flag(flag)


def set_options(trt: Any, config: Any, expected: Any, capability: Any) -> None:
    """Memory, sparsity, and names and types of layers in the engine."""
    if expected["workspace_mib"] and hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, expected["workspace_mib"] << 20)
    if expected["sparse"] and hasattr(trt.BuilderFlag, "SPARSE_WEIGHTS"):
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if capability:
        if not hasattr(config, "set_compute_capability"):
            raise CannotBuildError(f"TensorRT {trt.__version__} builds for the GPU at hand only")
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}"), 0)


def calibrate(trt: Any, config: Any, way: Any, core: int) -> Any:
    """Put the network on the accelerator, with the ranges of its tensors."""
    if not hasattr(trt, "IInt8EntropyCalibrator2"):
        raise CannotBuildError(f"TensorRT {trt.__version__} has no implicit quantization")
    _, _, rest = (FOLDER / way["calibration"]).read_bytes().partition(b"\n")
    major, minor, patch, *_ = (*(int(part) for part in re.findall(r"\d+", trt.__version__)), 0, 0)
    number = major * (1000 if major < 10 else 10000) + minor * 100 + patch

    class Cache(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: Any) -> None:
            return None

        def read_calibration_cache(self) -> Any:
            return f"TRT-{number}-EntropyCalibration2\n".encode() + rest

        def write_calibration_cache(self, cache: Any) -> None:
            return None

    config.int8_calibrator = Cache()
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    return config.int8_calibrator


def add_profile(builder: Any, config: Any, profile: Any, fixed: bool) -> None:
    """Set the shapes between which the engine is tuned; the accelerator takes the optimum one only."""
    if not profile:
        return
    added = builder.create_optimization_profile()
    for name, shapes in profile.items():
        ends = ("opt", "opt", "opt") if fixed else ("min", "opt", "max")
        added.set_shape(name, *(tuple(shapes[end]) for end in ends))
    config.add_optimization_profile(added)
    if fixed and hasattr(config, "set_calibration_profile"):
        config.set_calibration_profile(added)


def use_timing_cache(config: Any) -> Any:
    """The timing cache of an earlier build, or a new one; None where this TensorRT has none."""
    if not hasattr(config, "create_timing_cache"):
        return None
    file = FOLDER / "timing.cache"
    cache = config.create_timing_cache(file.read_bytes() if file.is_file() else b"")
    return cache if cache and config.set_timing_cache(cache, False) else None


def inspect(trt: Any, logger: Any, plan: Any, profile: Any) -> Any:
    """The layers of the engine as JSON; None where it cannot be loaded here.

    Where shapes are open, it lists types only for those of a context.
    """
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    context = engine.create_execution_context() if profile else None
    if context is not None and all(context.set_input_shape(name, shapes["opt"]) for name, shapes in profile.items()):
        inspector.execution_context = context
    text: str = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return text.encode()


def place(name: str, content: Any) -> None:
    """Write a file aside and put it in place; nothing where there is nothing."""
    if content is None:
        return
    aside = FOLDER / f"{name}.part.{os.getpid()}"
    aside.write_bytes(content)
    aside.replace(FOLDER / name)


def printable(text: str) -> str:
    """Names and messages with every character written out that does not show itself: no terminal obeys them."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


if __name__ == "__main__":
    sys.exit(main())
