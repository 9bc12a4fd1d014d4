"""Criteria by name, and what all of them keep to."""

import subprocess
import sys

import numpy as np
import pytest

from graphpress import torch_bridge
from graphpress.backend import Availability
from graphpress.errors import BackendError, DataError, UsageError
from graphpress.passes.prune.criteria import Criterion, Reduction, criterion_names, load_criterion

NAMES = [
    "activation",
    "batch_norm",
    "fisher",
    "fpgm",
    "l1",
    "l2",
    "obs",
    "random",
    "taylor",
    "wanda",
]
WITHOUT_NORM = [name for name in NAMES if name != "batch_norm"]


def test_names_are_sorted_and_load():
    assert criterion_names() == NAMES
    for name in NAMES:
        kind = load_criterion(name)
        assert issubclass(kind, Criterion)
        assert kind.name == name


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'taylor'"):
        load_criterion("tailor")


@pytest.mark.parametrize("name", ["fisher", "obs", "taylor", "wanda"])
def test_what_is_in_one_unit_for_all_groups_is_not_divided(name):
    assert load_criterion(name).usual.normalize == "none"


@pytest.mark.parametrize("name", ["fpgm", "l1", "l2"])
def test_what_looks_at_weights_alone_looks_at_both_ends_and_without_their_scale(name):
    assert load_criterion(name).usual == Reduction(roles=("writes", "reads"), normalize="place")


@pytest.mark.parametrize("name", WITHOUT_NORM)
def test_scores_every_group_deterministically_and_leaves_the_model_alone(name, case):
    small = case()
    first, second = (small.score(load_criterion(name)()) for _ in range(2))
    assert {key: scores.shape for key, scores in first.items()} == {"w1[0]": (8,), "w2[0]": (12,)}
    for key, scores in first.items():
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(scores, second[key])
    for key, array in small.weights.items():
        np.testing.assert_array_equal(small.model.graph.initializers[key].const_value.numpy(), array)


@pytest.mark.parametrize("name", ["activation", "fisher", "obs", "taylor", "wanda"])
def test_data_is_asked_for(name, case):
    assert load_criterion(name).needs_data
    with pytest.raises(UsageError, match="calibration data"):
        case().score(load_criterion(name)(), calibration=None)


@pytest.mark.parametrize("name", ["activation", "fisher", "obs", "taylor", "wanda"])
def test_empty_data_is_refused(name, case):
    with pytest.raises(DataError, match="empty"):
        case().score(load_criterion(name)(), calibration=[])


@pytest.mark.parametrize("name", ["l2", "fpgm", "wanda", "taylor"])
def test_weights_that_are_no_numbers_are_named(name, case):
    with pytest.raises(DataError, match=r"w1\[0\].*no finite number"):
        case(lambda weights: weights["w2"].__setitem__((0, 3), np.nan)).score(load_criterion(name)())


def test_gradients_say_how_to_get_the_framework(case, monkeypatch):
    absent = Availability(False, "torch is not installed", "pip install 'graphpress[torch]'")
    monkeypatch.setattr(torch_bridge, "available", lambda: absent)
    with pytest.raises(BackendError, match=r"graphpress\[torch\]"):
        case().score(load_criterion("taylor")())


@pytest.mark.parametrize(
    "words", [{"combine": "summ"}, {"normalize": "average"}, {"roles": ("write",)}], ids=lambda words: next(iter(words))
)
def test_words_of_the_reduction_are_checked(words):
    with pytest.raises(UsageError, match=r"did you mean|choose one of"):
        Reduction(**words)


@pytest.mark.parametrize(("name", "field"), [("activation", "statistic"), ("fisher", "targets")])
def test_words_of_a_criterion_are_checked(name, field):
    with pytest.raises(UsageError, match=field):
        load_criterion(name)(**{field: "nothing"})


@pytest.mark.parametrize("name", ["activation", "obs", "wanda"])
def test_data_that_is_no_number_is_named(name, case):
    feeds = [{"x": np.full((2, 3, 8, 8), np.nan, np.float32)}]
    with pytest.raises(DataError, match="no finite number"):
        case().score(load_criterion(name)(), calibration=feeds)


def test_no_framework_is_imported_before_gradients_are_taken():
    names = ", ".join(repr(name) for name in NAMES)
    code = (
        "import sys, graphpress.passes.prune._masking; "
        "from graphpress.passes.prune.criteria import load_criterion; "
        f"[load_criterion(name)() for name in ({names})]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
