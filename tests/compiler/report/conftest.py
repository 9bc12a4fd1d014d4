import pytest

from graphpress.manager.records import PassRecord, RefusalRecord, SpeedVerdict, Verdict
from graphpress.report.records import Figures, LayerRecord, Report

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
def bare_report():
    """No data, nothing measured, nothing done."""
    return Report(model="net.onnx", target="cpu", backend="onnxruntime", status="kept_original")
