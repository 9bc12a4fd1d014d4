"""Static int8 on the shared real models: ours against onnxruntime.quantization, same data, same process.

    GRAPHPRESS_DATA=... python benchmarks/int8.py

For each model: top-1 of fp32, ours and theirs; bytes and paired latency ratio to fp32 (below 1 is faster), interleaved.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphpress import optimize
from graphpress.data import load_dataset
from graphpress.evaluation import evaluate, resolve_metric
from graphpress.runtime import Session, compare_sessions

THREADS = 2
MODELS = {"resnet20_cifar10": "cifar10", "resnet32_cifar10": "cifar10", "mobilenet_v1_0.25_224": "imagenet500",
          "mnist_opt": "mnist"}  # fmt: skip


class Reader:
    """Feeds in the form that onnxruntime.quantization wants."""

    def __init__(self, feeds: Any) -> None:
        self._feeds: Iterator[Any] = iter(feeds)

    def get_next(self) -> Any:
        return next(self._feeds, None)


def theirs(model: Path, feeds: Any, out: Path) -> Path:
    """Quantize with onnxruntime's defaults for this machine: u8 activations, s8 weights per channel, Q/DQ."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    CalibrationDataReader.register(Reader)
    quant_pre_process(model, out / "prepared.onnx")
    quantize_static(out / "prepared.onnx", out / "int8.onnx", Reader(feeds), quant_format=QuantFormat.QDQ,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True)  # fmt: skip
    return out / "int8.onnx"


def measure(name: str, data_file: str, folder: Path) -> str:
    root = Path(os.environ["GRAPHPRESS_DATA"])
    model = root / f"{name}.onnx"
    fp32 = Session(model, threads=THREADS)
    data = load_dataset(root / f"{data_file}.yaml", fp32.inputs)
    metric = resolve_metric("top1", has_labels=True)
    result = optimize(model, data=root / f"{data_file}.yaml", max_drop=None, allow_worse=True, threads=THREADS,
                      output=folder / "ours")  # fmt: skip
    single = {spec.name: next(iter(data.calibration))[spec.name][:1] for spec in fp32.inputs}

    def cell(file: Path) -> str:
        session = Session(file, threads=THREADS)
        timing = compare_sessions(fp32, session, single, seconds=6)
        top1 = evaluate(session, data.evaluation, metric).value
        return f"{top1:.4f} | {file.stat().st_size / model.stat().st_size:.2f} | {timing.ratio:.2f}"

    cells = [f"{evaluate(fp32, data.evaluation, metric).value:.4f}", cell(result.output / "model.onnx")]
    try:
        cells.append(cell(theirs(model, data.calibration, folder)))
    except Exception as error:  # the peer's failure is a result, too
        cells.append(f"fails ({type(error).__name__}) | – | –")
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    print("| model | fp32 top-1 | ours: top-1 | bytes | time | onnxruntime.quantization: top-1 | bytes | time |")
    print("|---|---|---|---|---|---|---|---|")
    for name, data_file in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            print(measure(name, data_file, Path(folder)), flush=True)
