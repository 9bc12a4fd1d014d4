from dataclasses import replace

import pytest

from graphpress.manager.records import PassRecord, RefusalRecord, SpeedVerdict, Verdict
from graphpress.report.records import BackendRecord, DataRecord, Figures, KernelRecord, LayerRecord, Provenance, Report

EVIL = "<script>document.title='owned'</script>"


@pytest.fixture
def full_report():
    layers = [
        LayerRecord(name=f"conv_{at}", op="Conv", macs=1000 * (at % 5 + 1), asked="int8", became="int8", sqnr=30.0 + at)
        for at in range(12)
    ]
    layers[3] = LayerRecord(name=EVIL, op="Conv", macs=2500, asked="int8", became="float32", seconds=0.0002)
    return Report(
        model="net.onnx",
        target="cpu",
        backend="onnxruntime",
        status="delivered",
        metric_name="top1",
        threads=2,
        baseline=Figures(metric=0.91, latency_ms=1.23, parameters=269722, macs=40551424, bytes=1092218, nodes=152),
        result=Figures(metric=0.908, latency_ms=0.61, parameters=269722, macs=40551424, bytes=312218, nodes=130),
        passes=(
            PassRecord(name="fold_constants", status="applied", seconds=0.1, notes=("nothing to change",)),
            PassRecord(
                name="quantize",
                status="applied",
                seconds=2.0,
                verify_seconds=0.5,
                measure_seconds=3.0,
                changes=21,
                metric=0.908,
                transaction=1,
                options={"percentile": 99.99, "scheme": "minmax"},
            ),
            PassRecord(name="prune", status="rolled_back", seconds=1.0, measure_seconds=2.0, metric=0.8, transaction=2),
        ),
        refusals=(
            RefusalRecord(pass_name="fold_batch_norm", where="bn3", why="another reader", fix="leave as is"),
            RefusalRecord(pass_name="prune", where="<b>head</b>", why="touches a graph output"),
        ),
        layers=tuple(layers),
        verdict=Verdict(drop=0.002, low=-0.0011, high=0.0049, samples=10000, max_drop=0.01),
        speed=SpeedVerdict(ratio=0.497, low=0.49, high=0.51, rounds=150),
        dropped_for_worse=("fuse_swish",),
        notes=("calibrated on 512 samples",),
        environment={"python": "3.11", "processor": "one & only"},
        seconds=12.4,
        modelled_ms=0.2,
    )


@pytest.fixture
def compiled_report(full_report):
    """Of a rival that made kernels of its own; a third was refused."""
    kernels = (
        KernelRecord(
            kernel="Product",
            nodes=("conv_1", EVIL),
            shape="56x56x64, 3x3 → 56x56x64",
            setting="rows 1, columns 14",
            arithmetic="int8",
            macs=4_000_000,
            seconds=0.0002,
            peak_share=0.5,
        ),
        KernelRecord(kernel="StridedCopy", nodes=("input",), seconds=0.0003, start_seconds=0.0002),
    )
    backends = (
        BackendRecord(name="onnxruntime", latency_ms=0.8),
        BackendRecord(name="tvm", delivered=True, latency_ms=0.4, ratio=0.5, low=0.45, high=0.55),
        BackendRecord(name="other", why="node /s: Slice has no kernels"),
    )
    return replace(
        full_report,
        backend="tvm",
        kernels=kernels,
        backends=backends,
        memory={"weights": 500_000, "intermediate values": 1_000_000},
        usage='graphpress.runtime.load("{folder}")',
    )


@pytest.fixture
def bare_report():
    """No data, nothing measured, nothing done."""
    return Report(model="net.onnx", target="cpu", backend="onnxruntime", status="kept_original")


@pytest.fixture
def long_report(full_report):
    """Many layers with long names, every column there is, long options, notes and reasons."""
    words, name = "a sentence of many words that goes on " * 4, "/model/backbone/stage_3/block_2/" + "attention_" * 6
    layers = [
        LayerRecord(
            name=f"{name}{at}", op="ConvTranspose", macs=10**9 + at, asked="int8", became="float32",
            seconds=0.0123, sqnr=31.5, channels_before=1024, channels=977,
        )
        for at in range(90)
    ]  # fmt: skip
    data = DataRecord(
        part="evaluation", source="/a/folder/" + "deep/" * 20 + "data.yaml", samples=500, sha256="cafe" * 16
    )
    return replace(
        full_report,
        model="a_long_name_of_a_model_" * 3 + ".onnx",
        layers=layers,
        passes=(
            *full_report.passes,
            PassRecord(name="quantize_weights", status="applied", changes=3, notes=(words,), options={"layers": name}),
            PassRecord(name="prune_depth", status="rolled_back", transaction=3, metric=0.5, notes=(words,)),
        ),
        refusals=(*full_report.refusals, RefusalRecord(pass_name="fuse_attention", where=name, why=words, fix=words)),
        notes=(words,),
        provenance=Provenance(
            command=f"optimize net.onnx --passes {name}", date="2026-01-02", model_sha256="f00d" * 16, data=(data,)
        ),
    )
