"""Every kind of network in every precision, built with NVIDIA's own compiler for every generation that it offers."""

import numpy as np
import pytest

from graphpress import optimize, save
from graphpress.backends.tensorrt.toolchain import find_toolchain
from graphpress.data import synthetic_samples
from graphpress.models import build
from graphpress.runtime import Session

pytestmark = pytest.mark.skipif(
    find_toolchain("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: pip install 'graphpress[tensorrt]'"
)

MODELS = {
    "resnet": {"depth": 50, "width": 8, "image": 32},
    "bert": {"layers": 2},
    "vit": {"layers": 2},
    "unet": {},
    "detector": {},
}
SHAPES = {"bert": {"input_ids": (1, 16)}}
"""Where the model has fewer positions than made-up texts have words."""
EVERY = "dgpu"
FLOAT8 = {"dgpu{generation=ada}": "SM89", "dgpu{generation=blackwell}": "SM120"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The models with data for them, open batch and sequence."""
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for name, arguments in MODELS.items():
        file = save(build(name, **arguments), folder / f"{name}.onnx")[0]
        feeds = list(synthetic_samples(Session(file).inputs, 4, seed=0, input_shapes=SHAPES.get(name)))
        np.savez(folder / f"{name}.npz", **{key: np.concatenate([feed[key] for feed in feeds]) for key in feeds[0]})
        made[name] = file, folder / f"{name}.npz"
    return made


def delivered(sources, name, out, **options):
    file, data = sources[name]
    return optimize(file, data=data, output=out, max_drop=None, allow_worse=True, threads=1, **options)


def unmet_precisions(report, kinds):
    """Products that became something else than asked, without a reason in the report."""
    explained = {one.where for one in report.refusals}
    asked = [one for one in report.layers if one.macs and one.asked in kinds]
    return [one.name for one in asked if one.became not in (one.asked, "int4", "fused") and one.name not in explained]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("recipe", ["float16", "int8-float16", "int4-weights"])
def test_builds_for_every_generation(sources, tmp_path, name, recipe):
    report = delivered(sources, name, tmp_path / "out", target=EVERY, recipe=recipe).report
    assert report.status == "delivered"
    assert any("checked on proxy SM80/86/89/120" in note for note in report.notes)
    assert unmet_precisions(report, ("int8", "float16", "weight-only")) == []
    if recipe == "int8-float16":
        assert any(one.became == "int8" and one.macs for one in report.layers)


@pytest.mark.parametrize("name", ["resnet", "bert"])
@pytest.mark.parametrize("target", FLOAT8)
def test_float8_where_the_hardware_has_it(sources, tmp_path, name, target):
    report = delivered(sources, name, tmp_path / "out", target=target, recipe="float8").report
    assert report.status == "delivered"
    assert any(f"checked on proxy {FLOAT8[target]}" in note for note in report.notes)
    assert any(one.became == "float8e4m3fn" for one in report.layers)


def test_float8_is_refused_where_the_hardware_lacks_it(sources, tmp_path):
    report = delivered(sources, "resnet", tmp_path / "out", target="jetson", recipe="float8").report
    assert any(one.pass_name == "quantize" and "float8" in one.why for one in report.refusals)
    assert not any(one.asked.startswith("float8") for one in report.layers)
