from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'graphpress[torch]'")

from graphpress.training.losses import (
    Objective,
    Term,
    attention_transfer,
    hint,
    label_loss,
    label_probabilities_loss,
    label_square,
    normalized_square,
    soft_decisions,
    soft_labels,
)

LOSSES = {
    "soft_labels": (partial(soft_labels, temperature=3.0, axis=1), (4, 5)),
    "soft_labels_last": (partial(soft_labels, temperature=1.0, axis=-1), (4, 3, 5)),
    "soft_decisions": (soft_decisions, (4, 5)),
    "normalized_square": (partial(normalized_square, scale=2.0), (4, 5)),
    "hint": (hint, (4, 3, 2, 2)),
    "attention": (attention_transfer, (4, 3, 2, 2)),
    "attention_of_a_sequence": (attention_transfer, (4, 6, 3)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_zero_where_both_agree_and_above_elsewhere(name):
    loss, shape = LOSSES[name]
    torch.manual_seed(0)
    student, teacher = torch.randn(shape), torch.randn(shape)
    assert loss(teacher, teacher).item() == pytest.approx(0.0, abs=1e-6)
    assert loss(student, teacher).item() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    loss, shape = LOSSES[name]
    torch.manual_seed(1)
    student, teacher = torch.randn(shape, dtype=torch.float64, requires_grad=True), torch.randn(shape).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), (student,))


@pytest.mark.parametrize("name", LOSSES)
def test_a_mean_over_samples(name):
    """Doubling a batch with itself changes nothing."""
    loss, shape = LOSSES[name]
    student, teacher = torch.randn(shape), torch.randn(shape)
    twice = loss(torch.cat([student] * 2), torch.cat([teacher] * 2))
    assert twice.item() == pytest.approx(loss(student, teacher).item(), rel=1e-5)


def test_soft_labels_are_the_divergence_of_the_paper():
    student, teacher, t = np.array([[1.0, 2.0, 0.5]]), np.array([[0.3, 3.0, -1.0]]), 2.0
    p, q = (np.exp(x / t) / np.exp(x / t).sum() for x in (teacher, student))
    wanted = t**2 * (p * np.log(p / q)).sum()
    assert soft_labels(torch.tensor(student), torch.tensor(teacher), t, 1).item() == pytest.approx(wanted)


def test_log_probabilities_are_logits():
    logits, student = torch.randn(4, 5), torch.randn(4, 5)
    plain = soft_labels(student, logits, 4.0, 1)
    assert soft_labels(student, logits.log_softmax(1), 4.0, 1).item() == pytest.approx(plain.item(), rel=1e-4)


def test_attention_ignores_how_many_channels_there_are():
    features = torch.rand(2, 4, 3, 3)
    assert attention_transfer(features, torch.cat([features, features], 1)).item() == pytest.approx(0.0, abs=1e-6)


def test_labels_behind_trailing_ones_and_void_labels():
    scores, labels = torch.randn(4, 5), torch.tensor([0, 3, 4, 1])
    plain = label_loss(scores, labels, 1)
    assert label_loss(scores[:, :, None, None], labels, 1).item() == plain.item()
    dense, marked = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    marked[0, 0] = 255
    marked[1, 2] = -1
    valid = (marked >= 0) & (marked < 3)
    wanted = torch.nn.functional.cross_entropy(dense.movedim(1, -1)[valid], marked[valid])
    assert label_loss(dense, marked, 1).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_labels_without_the_extents_of_one_of_the_output():
    """Binary labels often are [N] where the output is [N, 1]: never compared every one with every other."""
    values, labels = torch.randn(4, 1), torch.tensor([0, 1, 1, 0])
    for loss in (label_square, label_probabilities_loss):
        assert loss(values, labels).item() == pytest.approx(loss(values, labels[:, None]).item())


def test_a_batch_of_void_labels():
    scores = torch.randn(2, 5, 3, requires_grad=True)
    loss = label_loss(scores, torch.full((2, 3), 255), 1)
    loss.backward()
    assert loss.item() == 0
    assert not scores.grad.any()


def test_other_labels():
    values = torch.randn(3, 2)
    assert label_square(values, values.double()).item() == 0
    assert label_probabilities_loss(torch.full((2, 2), 30.0), torch.ones(2, 2)).item() == pytest.approx(0, abs=1e-6)


def test_what_only_guides_fades_and_is_not_measured():
    terms = [
        Term(2.0, "y", "t", lambda s, t: (s - t).sum()),
        Term(1.0, "z", "t", lambda s, t: s.sum(), guides=True),
    ]
    values, targets = {"y": torch.tensor([3.0]), "z": torch.tensor([10.0])}, {"t": torch.tensor([1.0])}
    losses = [Objective(terms)(values, targets, progress=progress).item() for progress in (0.0, 0.5, 1.0, None)]
    assert losses == [14.0, 9.0, 4.0, 4.0]
