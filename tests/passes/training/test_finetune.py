import re

import numpy as np
import pytest

from graphpress.analysis.shapes import infer_shapes
from graphpress.errors import DataError, UsageError
from graphpress.ir import clone
from graphpress.models import build
from graphpress.passes.training._labels import label_reading
from graphpress.passes.training._outputs import read_outputs
from graphpress.passes.training.finetune import Finetune
from graphpress.runtime import Session


@pytest.fixture
def labels(network, images):
    """Which class a sample's scores are highest in, compared with other samples: all classes occur."""
    scores = Session(network).run({"input": images})["logits"]
    return (scores - scores.mean(0)).argmax(1)


def accuracy(model, images, labels):
    return float((Session(model).run({"input": images})["logits"].argmax(1) == labels).mean())


def test_it_learns_the_labels(network, images, labels, context_of):
    before = accuracy(network, images, labels)
    outcome = Finetune(steps=60, batch_size=16, holdout=0.0, augment="none").run(network, context_of(labels=labels))
    assert outcome.changes
    assert accuracy(network, images, labels) > max(before, 0.6)


def test_repeated(damaged, labels, context_of, weights):
    again = clone(damaged)
    context = context_of(labels=labels)
    Finetune(steps=5, batch_size=16).run(damaged, context)
    Finetune(steps=5, batch_size=16).run(again, context_of(labels=labels, decisions=context.decisions))
    assert weights(damaged) == weights(again)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda labels: None, "no labels"),
        (lambda labels: labels + 9, "4 classes"),
        (lambda labels: labels - 1, "4 classes"),
        (lambda labels: labels + 0.5, "tells classes"),
    ],
)
def test_labels_that_do_not_fit(damaged, labels, context_of, weights, change, what):
    before = weights(damaged)
    with pytest.raises(DataError, match=what) as raised:
        Finetune(steps=2).run(damaged, context_of(labels=change(labels)))
    assert raised.value.fix
    assert weights(damaged) == before


def test_binary_labels_for_a_column_of_scores(context_of, weights):
    """A sigmoid output is [N, 1], its labels are [N]."""
    model, random = build("recommender"), np.random.default_rng(0)
    data = {
        "numbers": random.normal(size=(32, 6)).astype(np.float32),
        "categories": random.integers(0, 5, (32, 4)),
    }
    before = weights(model)
    labels = random.integers(0, 2, 32)
    Finetune(steps=10, batch_size=16, holdout=0.0).run(model, context_of(model, data=data, labels=labels))
    assert weights(model) != before
    with pytest.raises(DataError, match="do not go with"):
        Finetune(steps=1).run(model, context_of(model, data=data, labels=np.stack([labels, labels], 1)))
    with pytest.raises(DataError, match="from -1 to 1, but the output 'click' tells probabilities"):
        Finetune(steps=1).run(model, context_of(model, data=data, labels=2 * labels - 1))


def test_a_label_for_every_pixel(context_of, weights):
    """Scores of a segmentation without its Softmax are [N, classes, H, W], its labels are [N, H, W]."""
    model, random = build("unet", image=16), np.random.default_rng(0)
    data, before = {"input": random.normal(size=(8, 3, 16, 16)).astype(np.float32)}, weights(model)
    labels = random.integers(0, 2, (8, 16, 16))
    outcome = Finetune(steps=5, batch_size=4, holdout=0.0).run(model, context_of(model, data=data, labels=labels))
    assert outcome.changes
    assert not any("shifted" in note for note in outcome.notes), "a pixel's label holds for that pixel"
    assert weights(model) != before
    with pytest.raises(DataError, match="do not go with"):
        Finetune(steps=1).run(model, context_of(model, data=data, labels=labels[:, :8]))


def test_as_many_numbers_as_outputs_are_values(network, images, context_of):
    """[N, 4] may be four classes, or four numbers to be estimated: labels tell."""
    wanted = 10 * Session(network).run({"input": images})["logits"] + 3
    outcome = Finetune(steps=10, batch_size=16, holdout=0.0).run(network, context_of(labels=wanted))
    start, best = (float(number) for number in re.search(r"(\S+) -> (\S+)", outcome.notes[0]).groups())
    logits = Session(clone(network)).run({"input": images})["logits"]
    assert best < start
    assert np.square(wanted - logits).mean() == pytest.approx(best, rel=0.05)


def test_labels_are_for_the_output_that_they_fit(context_of):
    """Hidden states and scores, as encoders have them, [N, L, width] and [N, classes]."""
    model, random = build("bert", sequence=8, classes=3), np.random.default_rng(0)
    infer_shapes(model)
    readings = read_outputs(model)
    assert [reading.kind for reading in readings] == ["values", "values"]
    reading = label_reading(readings, random.integers(0, 3, 16), model)
    assert (reading.output, reading.kind, reading.axis) == ("logits", "classes", 1)
    with pytest.raises(UsageError, match=r"2 outputs, of which labels of shape \[16, 5\] fit 0"):
        label_reading(readings, random.integers(0, 3, (16, 5)), model)
