"""What a pass may measure, and on which samples."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.data import load_dataset
from graphpress.errors import ModelError
from graphpress.evaluation import EvaluationService, resolve_metric
from graphpress.ir import clone
from graphpress.models.builder import Builder
from graphpress.runtime import Session

RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 6)).astype(np.float32)


def network(seed=0):
    b = Builder("classifier", seed=seed)
    x = b.linear(b.input("x", ["N", 6]), (6, 4))
    b.output(x, "y", ["N", 4])
    return b.finish()


@pytest.fixture
def model():
    return network()


@pytest.fixture
def session(model):
    return Session(model)


def as_built(model):
    return model


def service(session, parts, metric=None, simulate=as_built):
    """The service of a run whose parts hold these samples, with labels where they are said to be."""
    predicted = session({"x": X})["y"].argmax(1)
    sections = {
        name: (X[start : start + 10], predicted[start : start + 10]) if labels else X[start : start + 10]
        for name, (start, labels) in parts.items()
    }
    data = load_dataset(sections, session.inputs)
    labeled = data.evaluation is not None and data.evaluation.labels is not None
    return EvaluationService.of(data, resolve_metric(metric, labeled), session, simulate)


ALL = {"calibration": (0, False), "evaluation": (10, True), "selection": (20, True)}


def test_without_data_there_is_none(session):
    assert EvaluationService.of(load_dataset(None, session.inputs), None, session, as_built) is None


def test_the_selection_part_is_used_where_there_is_one(session):
    about = service(session, ALL)
    assert about.split == "selection"
    np.testing.assert_array_equal(next(iter(about.samples))["x"], X[20:])
    np.testing.assert_array_equal(about.damage().feeds[0]["x"], X[20:])


def test_else_the_calibration_part_but_never_the_evaluation_part(session):
    about = service(session, {name: ALL[name] for name in ("calibration", "evaluation")})
    assert about.split == "calibration"
    np.testing.assert_array_equal(about.damage().feeds[0]["x"], X[:10])


def test_the_metric_is_the_users(session, model):
    about = service(session, ALL, "top1")
    assert about.metric(model).value == 1.0
    assert about.metric(network(seed=1)).value < 1.0
    assert about.metric(model).count == 10


def test_a_metric_that_needs_labels_which_are_not_there_is_none(session, model):
    about = service(session, {"calibration": (0, False), "evaluation": (10, True)}, "top1")
    assert about.metric(model) is None
    assert about.damage().damage(network(seed=1)) > 0
    compared = service(session, {"calibration": (0, False), "evaluation": (10, True)}, "agreement@y")
    assert compared.metric(model).value == 1.0


def test_a_metric_of_the_users_own_is_not_asked_without_the_labels_that_it_expects(session, model):
    def own(outputs, labels):
        return (outputs["y"].argmax(1) == labels).astype(float)

    parts = {"calibration": (0, False), "evaluation": (10, True)}
    assert service(session, parts, own).metric(model) is None
    assert service(session, {**parts, "calibration": (0, True)}, own).metric(model).value == 1.0


def test_without_labels_what_is_answered_differently_bounds_what_is_lost(session, model):
    parts = {"calibration": (0, False), "evaluation": (10, True)}
    about, changed = service(session, parts, "top1@y"), network(seed=1)
    answers = [Session(each)({"x": X[:10]})["y"].argmax(1) for each in (model, changed)]
    assert about.baseline.value == 1.0
    assert about.judged(changed).value == (answers[0] == answers[1]).mean() < 1.0


def test_a_pass_is_judged_by_the_users_metric_where_it_can_be_taken_and_by_none_where_nothing_bounds_it(session, model):
    about = service(session, ALL, "top1")
    assert about.judge is about.measured
    assert about.baseline.value == about.judged(model).value
    unbounded = service(session, {"calibration": (0, False), "evaluation": (10, True)}, "top5")
    assert unbounded.judge is unbounded.baseline is unbounded.judged(model) is None
    unknown = service(session, {"calibration": (0, False), "evaluation": (10, True)}, "top1")
    assert unknown.baseline is None  # nothing says that the output scores classes


def test_both_go_through_what_the_target_delivers(session, model):
    delivered = network(seed=1)
    about = service(session, ALL, simulate=lambda _: delivered)
    direct = service(session, ALL)
    assert about.metric(model).value == direct.metric(delivered).value
    assert about.damage().damage(model) == direct.damage().damage(delivered) > 0


def test_the_originals_outputs_are_computed_once(model):
    session, asked = Session(model), []

    class Counting:
        inputs = session.inputs

        def __call__(self, feed):
            asked.append(feed)
            return session(feed)

    about = service(Counting(), ALL)
    asked.clear()
    assert about.damage() is about.damage()
    assert len(asked) == 1


def test_damage_can_be_counted_from_another_model(session, model):
    pruned = network(seed=1)
    assert service(session, ALL).damage(pruned).damage(clone(pruned)) == 0
    assert service(session, ALL).damage(pruned).damage(model) > 0


def test_a_model_that_cannot_run_is_an_error(session, model):
    broken = clone(model)
    broken.graph[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError):
        service(session, ALL).damage().damage(broken)
