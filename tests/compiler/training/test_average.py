"""The running average of weights."""

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'graphpress[torch]'")

from graphpress.training.average import DECAY, WeightAverage


def test_it_forgets_its_start_and_settles_what_swings():
    average = WeightAverage([torch.tensor([100.0])])
    for step in range(2000):
        average.update([torch.tensor([1.0 + (-1) ** step])])
    assert average.values[0].item() == pytest.approx(1.0, abs=1 - DECAY)


def test_a_restart_begins_from_the_weights():
    average = WeightAverage([torch.zeros(2)])
    average.update([torch.ones(2)])
    average.restart([torch.full((2,), 5.0)])
    assert average.values[0].tolist() == [5, 5]
    average.update([torch.full((2,), 7.0)])
    assert 6 < average.values[0][0].item() < 7
