import pytest

from graphpress.errors import DataError
from graphpress.ir import clone
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
