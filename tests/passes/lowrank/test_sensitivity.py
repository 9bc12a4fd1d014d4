"""How much is measured of what errors do follows from what the model costs."""

from types import SimpleNamespace

import pytest
from text_models import model_of

from graphpress.evaluation.sensitivity import SAMPLES
from graphpress.passes.lowrank._sensitivity import (
    ENOUGH_SAMPLES,
    FEWEST_SAMPLES,
    MEASURING_MACS,
    PROBE_ERRORS,
    LayerSensitivity,
)

LAYERS = 10


def sensitivity(runs):
    """Of a model that all of the budget runs so many times for each layer; with the samples that were asked for."""
    asked = []
    service = SimpleNamespace(damage=lambda model, samples: asked.append(samples) or "measure")
    model = model_of("(float[1] x) => (float[1] y) { y = Relu(x) }")
    macs = int(MEASURING_MACS / LAYERS / runs)
    return LayerSensitivity.of(model, macs, LAYERS, SimpleNamespace(evaluation=service)), asked


@pytest.mark.parametrize(
    ("runs", "samples", "probes"),
    [
        (1e6, SAMPLES, PROBE_ERRORS),
        (2 * ENOUGH_SAMPLES, ENOUGH_SAMPLES, PROBE_ERRORS),
        (2 * ENOUGH_SAMPLES - 1, 2 * ENOUGH_SAMPLES - 1, PROBE_ERRORS[-1:]),
        (FEWEST_SAMPLES, FEWEST_SAMPLES, PROBE_ERRORS[-1:]),
    ],
)
def test_the_larger_the_model_the_fewer_samples_and_then_probes(runs, samples, probes):
    measured, asked = sensitivity(runs)
    assert asked == [samples]
    assert tuple(measured.errors) == probes


def test_a_model_that_takes_too_long_is_not_measured_and_says_so():
    unmeasured, asked = sensitivity(FEWEST_SAMPLES - 1)
    assert not asked
    assert "too long" in unmeasured.missing
