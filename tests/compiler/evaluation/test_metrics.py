"""Metrics on outputs made by hand, where the right figure is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.data import load_dataset
from graphpress.errors import DataError, UsageError
from graphpress.evaluation import Predictions, compare_outputs, evaluate, resolve_metric, sqnr


class Input:
    """An input of any batch size."""

    def __init__(self, batch="N"):
        self.name, self.dtype, self.dims = "x", np.dtype(np.float32), (batch, 6)


RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 6)).astype(np.float32)
LABELS = RNG.integers(0, 6, 50)


def samples(labels=None, batch="N"):
    arrays = {"x": X} if labels is None else {"x": X, "labels": labels}
    return load_dataset(arrays, [Input(batch)]).evaluation


def identity(feed):
    return {"boxes": feed["x"][:, None, :4], "scores": feed["x"]}


def noisy(feed):
    return {"boxes": feed["x"][:, None, :4], "scores": feed["x"] + 0.3 * np.sin(40 * feed["x"])}


def answer(run, labels=None):
    """What a model answers to the first ten samples."""
    return Predictions(run({"x": X[:10]}), None if labels is None else labels[:10], None, 10, 10)


def score(metric, run=identity, *, labels=None, batch="N", reference=None):
    settled = resolve_metric(metric, labels is not None, answer(reference or run, labels))
    return evaluate(run, samples(labels, batch), settled, reference)


@pytest.mark.parametrize("batch", ["N", 1, 7, 64])
@pytest.mark.parametrize("k", [1, 5])
def test_top_k(k, batch):
    expected = (np.argsort(-X, axis=1, kind="stable")[:, :k] == LABELS[:, None]).any(1)
    result = score(f"top{k}", labels=LABELS, batch=batch)
    assert result.value == pytest.approx(expected.mean())
    np.testing.assert_array_equal(result.per_sample, expected)
    assert result.count == 50


def test_defaults():
    assert resolve_metric(None, True).name == "top1"
    assert resolve_metric(None, False).name == "agreement"


def test_ties_rank_by_index_and_nan_never_wins():
    labels = np.zeros(50, int)
    flat = score("top1", lambda feed: {"y": np.zeros_like(feed["x"])}, labels=labels)
    assert flat.value == 1
    broken = score("top1", lambda feed: {"y": np.full_like(feed["x"], np.nan)}, labels=labels)
    assert broken.value == 0


def test_outputs_that_tell_classes():
    for shape in ((-1, 6, 1, 1), (-1, 6)):
        assert score("top1", lambda feed, shape=shape: {"y": feed["x"].reshape(shape)}, labels=LABELS).count == 50
    predicted = X.argmax(1)
    assert score("top1", lambda feed: {"y": feed["x"].argmax(1)}, labels=predicted).value == 1
    assert score("top1@scores", labels=predicted).value == 1


def test_one_hot_labels_are_recognized():
    with pytest.raises(DataError, match="do not go with") as caught:
        score("top1", labels=np.eye(6, dtype=int)[LABELS])
    assert "labels.argmax" in caught.value.fix


def test_no_chance_without_classes_to_count():
    def decided(feed):
        return {"y": feed["x"].argmax(1)}

    assert score("top1", decided, labels=(X.argmax(1) + 1) % 6, reference=decided).warning == ""


def test_dense_labels():
    labels = X.reshape(50, 3, 2).argmax(1)
    labels[:, 0] = (labels[:, 0] + 1) % 3
    dense = score("top1@y", lambda feed: {"y": feed["x"].reshape(-1, 3, 1, 2)}, labels=labels[:, None])
    assert dense.value == pytest.approx(0.5)
    labels[:, 0] = 255
    assert score("top1@y", lambda feed: {"y": feed["x"].reshape(-1, 3, 1, 2)}, labels=labels[:, None]).value == 1


def test_agreement():
    assert score("agreement", reference=identity).value == 1
    result = score("agreement", noisy, reference=identity)
    candidate = noisy({"x": X})["scores"]
    assert result.value == pytest.approx((candidate.argmax(1) == X.argmax(1)).mean())
    assert set(result.per_sample.tolist()) == {0.0, 1.0}
    assert result.note == "agreement is taken on output 'scores', one of 2: `agreement@OUTPUT` takes another"
    assert score("agreement@scores", noisy, reference=identity).note == ""
    only = score("agreement", lambda feed: {"y": feed["x"]}, reference=lambda feed: {"y": feed["x"]})
    assert only.note == ""


def test_a_detector_agrees_by_all_its_outputs():
    def detector(feed):
        scores = feed["x"][:, :, None]
        return {"cls_8": scores, "cls_16": scores[:, ::2], "bbox_8": np.repeat(scores, 4, 2)}

    def off(feed):
        return detector(feed) | {"bbox_8": -detector(feed)["bbox_8"]}

    result = score("agreement", off, reference=detector)
    assert result.value == pytest.approx((1 + 1 + 0) / 3)
    assert "of all 3 outputs" in result.note
    with pytest.raises(DataError, match="no output scores classes"):
        score("top1", detector, labels=LABELS)


def test_an_original_no_better_than_chance_is_a_warning():
    far, right = (X.argmax(1) + 1) % 6, X.argmax(1)
    worst = score("top1", labels=far, reference=identity)
    assert worst.value == 0
    assert worst.warning.startswith(
        "the input model itself scores 0.0000 on 50 samples with 6 classes, hardly better than chance: check preprocess"
    )
    assert "taken on output 'scores', one of 2" in worst.note
    assert not score("top1", labels=right, reference=identity).warning
    assert not score("top1", noisy, labels=far, reference=identity).warning, "a candidate's own affair"
    assert score("top5@scores", labels=X.argmin(1), reference=identity).warning
    few = score("top5", lambda feed: {"y": feed["x"][:, :4]}, labels=LABELS % 4)
    assert (few.value, few.warning) == (1, "")


@pytest.mark.parametrize(
    ("hits", "warns"),
    [(8, True), (12, True), (20, False), (30, False)],  # of 50 with 6 classes: chance alone gives 8.3
)
def test_more_than_chance_by_luck_is_near_chance(hits, warns):
    labels = np.where(np.arange(50) < hits, X.argmax(1), (X.argmax(1) + 1) % 6)
    assert bool(score("top1", labels=labels, reference=identity).warning) == warns


@pytest.mark.parametrize("batch", ["N", 7])
def test_outputs_without_classes_are_compared_by_their_numbers(batch):
    def dense(feed):
        return {"map": feed["x"].reshape(-1, 2, 3), "one": feed["x"][:, :1]}

    def halved(feed):
        return {name: array / 2 for name, array in dense(feed).items()}

    metric = resolve_metric(None, False, answer(dense))
    assert (metric.name, metric.unit) == ("closeness", "points")
    assert metric.usual_drop == pytest.approx(0.05, rel=0.01)
    assert score("agreement", dense, batch=batch, reference=dense).value == 1
    result = score("agreement", halved, batch=batch, reference=dense)
    assert result.value == pytest.approx(0.5)
    assert "closeness is 1 - |r - c| / |r| of all 2 outputs" in result.note
    assert score("cosine", halved, batch=batch, reference=dense).value == pytest.approx(1)


def test_outputs_of_another_size_do_not_agree():
    result = score(
        "agreement", lambda feed: {"y": feed["x"][:, None, :2]}, reference=lambda feed: {"y": feed["x"][:, None]}
    )
    assert result.value == 0


def test_outputs_that_are_no_arrays_are_left_out():
    def mapped(feed):
        return {"maps": [{0: 1.0}], "text": np.array(["a"] * len(feed["x"])), "scores": feed["x"]}

    assert score("agreement", mapped, reference=mapped).value == 1
    with pytest.raises(DataError, match="no output holds numbers"):
        score("cosine", lambda _: {"text": np.array(["a"])}, reference=lambda _: {"text": np.array(["a"])})


@pytest.mark.parametrize("batch", ["N", 7])
def test_sqnr_metric_is_pooled(batch):
    result = score("sqnr", noisy, batch=batch, reference=identity)
    outputs, wanted = noisy({"x": X}), identity({"x": X})
    signal = sum(float(np.square(a.astype(np.float64)).sum()) for a in wanted.values())
    noise = sum(float(np.square((a - outputs[n]).astype(np.float64)).sum()) for n, a in wanted.items())
    assert result.value == pytest.approx(10 * np.log10(signal / noise), rel=1e-6)
    assert result.per_sample is None
    assert score("sqnr", reference=identity).value == 200
    assert score("sqnr", lambda f: {n: a * np.nan for n, a in identity(f).items()}, reference=identity).value == -200


@given(st.integers(1, 30), st.floats(1e-3, 1e3), st.floats(-60, 60))
def test_sqnr_does_not_mind_scale(n, scale, level):
    reference = np.random.default_rng(n).standard_normal(n) + 3
    noise = reference * 10 ** (-level / 20)
    assert sqnr(scale * reference, scale * (reference + noise)) == pytest.approx(level, abs=1e-6)


def test_sqnr_at_the_edges():
    ones = np.ones(3)
    assert sqnr(ones, ones) == np.inf
    assert sqnr(np.zeros(3), ones) == -np.inf
    assert sqnr(ones, ones * np.nan) == -np.inf
    assert sqnr(np.array([np.inf, 1.0]), np.array([np.inf, 1.0])) == np.inf
    with pytest.raises(ValueError, match="differ"):
        sqnr(ones, np.ones(4))


def test_user_metric_by_sample_and_by_batch():
    def hits(outputs, labels):
        return outputs["scores"].argmax(1) == labels

    by_sample = score(hits, labels=LABELS, batch=7)
    by_batch = score(lambda outputs, labels: hits(outputs, labels).mean(), labels=LABELS, batch=7)
    top1 = score("top1", labels=LABELS)
    assert by_sample.value == by_batch.value == pytest.approx(top1.value)
    np.testing.assert_array_equal(by_sample.per_sample, top1.per_sample)
    assert by_batch.per_sample is None


def test_user_metric_of_a_file(tmp_path):
    metric = resolve_metric(lambda path: len(path.name) / 10, has_labels=False)
    assert evaluate(identity, None, metric, model=tmp_path / "m.onnx").value == 0.6
    with pytest.raises(UsageError, match="takes a model file"):
        evaluate(identity, samples(), metric)


def test_user_metric_by_reference(tmp_path, monkeypatch):
    (tmp_path / "my_metric.py").write_text("def always(outputs, labels):\n    return 0.25\n")
    monkeypatch.chdir(tmp_path)
    assert score("my_metric:always").value == 0.25


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("top2", "did you mean 'top"),
        ("top1", "needs labels"),
        ("nowhere:metric", "cannot import"),
        ("os:nothing_of_this_name", "has no"),
        ("math:pi", "not a function"),
        (lambda a, b, c: 0, "3 required parameters"),
    ],
)
def test_metrics_that_cannot_be(name, reason):
    with pytest.raises(UsageError, match=reason):
        resolve_metric(name, has_labels=False)


@pytest.mark.parametrize(
    ("run", "labels", "metric", "reason"),
    [
        (identity, LABELS + 1, "top1", "run from 1 to 6"),
        (identity, LABELS[:, None].repeat(2, 1), "top1", "do not go with"),
        (identity, LABELS + 0.5, "top1", "not all of them whole numbers"),
        (identity, LABELS + 0.5, "perplexity", "not all of them whole numbers"),
        (lambda feed: {"y": feed["x"][:, :1]}, LABELS, "top1", "no output scores classes"),
        (identity, LABELS, lambda outputs, labels: np.ones(3), "for 32 samples"),
        (identity, LABELS, lambda outputs, labels: "good", "returned str"),
        (identity, LABELS, lambda outputs, labels: outputs["none"], "raised KeyError"),
    ],
)
def test_what_does_not_go_together(run, labels, metric, reason):
    with pytest.raises(DataError, match=reason):
        score(metric, run, labels=labels)


def test_no_samples_and_no_reference():
    metric = resolve_metric("agreement", False)
    with pytest.raises(DataError, match="no samples"):
        evaluate(identity, None, metric, identity)
    with pytest.raises(UsageError, match="reference"):
        evaluate(identity, samples(), metric)
    with pytest.raises(UsageError, match="did you mean 'scores'"):
        score("agreement@score", reference=identity)


def test_compare_outputs():
    boxes, scores = compare_outputs(identity, noisy, samples())
    assert (boxes.name, boxes.max_abs, boxes.max_rel, boxes.cosine) == ("boxes", 0, 0, 1)
    assert boxes.sqnr_db == np.inf
    wanted, given = X.astype(np.float64), noisy({"x": X})["scores"].astype(np.float64)
    assert scores.sqnr_db == pytest.approx(sqnr(wanted, given))
    assert scores.max_abs == pytest.approx(np.abs(wanted - given).max())
    assert scores.max_rel == pytest.approx(np.abs(wanted - given).max() / np.abs(wanted).max())
    assert scores.cosine == pytest.approx((wanted * given).sum() / np.linalg.norm(wanted) / np.linalg.norm(given))
    with pytest.raises(DataError, match="missing"):
        compare_outputs(identity, lambda feed: {"boxes": identity(feed)["boxes"]}, samples())


SOFTMAX = np.exp(X) / np.exp(X).sum(1, keepdims=True)
TOKENS = RNG.standard_normal((10, 7, 9)).astype(np.float32)
LOGITS = X + 8 * np.eye(X.shape[1], dtype=np.float32)[X.argmax(1)]
HOURS = 500 + 200 * np.sin(np.arange(24) / 4 + X[:, :1]).astype(np.float32)


@pytest.mark.parametrize(
    ("outputs", "scored"),
    [
        ({"y": LOGITS}, "y"),
        ({"y": np.log(SOFTMAX)}, "y"),
        ({"y": LOGITS[:, :4]}, None),
        ({"y": X}, None),
        ({"y": 1000 * X + 5000 * np.arange(X.shape[1], dtype=np.float32)}, None),
        ({"y": HOURS}, None),
        ({"logits": X[:, :2]}, "logits"),
        ({"dense_2": X[:, :4], "softmax_1": SOFTMAX[:, :2] / SOFTMAX[:, :2].sum(1, keepdims=True)}, "softmax_1"),
        ({"a": X, "b": SOFTMAX}, "b"),
        ({"a": X, "cls_score": X}, "cls_score"),
        ({"bbox_pred": X}, None),
        ({"image_embeds": X}, None),
        ({"logits_per_image": X}, "logits_per_image"),
        ({"last_hidden_state": TOKENS.repeat(5, 0), "poolerOutput": X}, None),
        ({"pred_boxes": TOKENS.repeat(5, 0)[:, :, :4], "pred_logits": TOKENS.repeat(5, 0)}, None),
        ({"label": X.argmax(1)}, "label"),
        ({"label": X.argmax(1), "probabilities": SOFTMAX}, "probabilities"),
    ],
)
def test_the_output_that_scores_classes_is_chosen_by_meaning(outputs, scored):
    def run(feed):
        return {name: array[: len(feed["x"])] for name, array in outputs.items()}

    assert resolve_metric(None, False, answer(run)).name == ("agreement" if scored else "closeness")
    note = score(None, run, reference=run).note
    assert (f"on output {scored!r}" in note) == (scored is not None and len(outputs) > 1)


def test_a_metric_of_classes_that_was_named_takes_an_output_for_which_nothing_speaks():
    def run(feed):
        return {"y": feed["x"]}

    assert resolve_metric(None, False, answer(run)).name == "closeness"
    assert resolve_metric("agreement", False, answer(run)).name == "agreement"


def test_labels_speak_for_an_output_that_nothing_else_speaks_for():
    few = score(None, lambda feed: {"y": feed["x"][:, :3]}, labels=X[:, :3].argmax(1))
    assert few.value == 1


def test_the_choice_is_that_of_the_original_whatever_the_candidate_answers():
    """Rounded, its probabilities no longer sum to one."""

    def original(feed):
        scores = np.exp(feed["x"])
        return {"a": feed["x"][:, ::-1], "b": scores / scores.sum(1, keepdims=True)}

    def rounded(feed):
        return {name: np.round(array * 50) / 50 for name, array in original(feed).items()}

    metric = resolve_metric("top1", True, answer(original, LABELS))
    assert evaluate(rounded, samples(LABELS), metric).value == pytest.approx(
        (rounded({"x": X})["b"].argmax(1) == LABELS).mean()
    )


class Tokens:
    """An input of token ids."""

    name, dtype, dims = "ids", np.dtype(np.int64), ("N", 7)


IDS = RNG.integers(0, 9, (10, 7))


def language_model(sharpness=1.0):
    """Scores that depend on the token."""
    return lambda feed: {"logits": sharpness * TOKENS[:1, feed["ids"] % 7].reshape(len(feed["ids"]), 7, 9)}


def test_tokens_are_scored_one_by_one():
    data = load_dataset({"ids": IDS}, [Tokens()]).evaluation
    scores = language_model()({"ids": IDS})["logits"].astype(np.float64)
    chances = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    known = Predictions({"logits": scores}, None, None, 10, 10, {"ids": IDS})

    def flipped(feed):
        return {"logits": np.where(np.arange(7)[:, None] < 3, -1, 1) * language_model()(feed)["logits"]}

    agreement = resolve_metric(None, False, known)
    equal = (flipped({"ids": IDS})["logits"].argmax(-1) == scores.argmax(-1)).mean()
    assert agreement.name == "agreement"
    assert evaluate(flipped, data, agreement, language_model()).value == pytest.approx(equal)

    own = np.take_along_axis(chances[:, :-1], IDS[:, 1:, None], -1)[..., 0]
    perplexity = resolve_metric("perplexity", False, known)
    assert perplexity.name == "1/perplexity"
    assert evaluate(language_model(), data, perplexity).value == pytest.approx(np.exp(np.log(own).mean(1).mean()))

    kl = resolve_metric("kl", False, known)
    sharp = np.exp(2 * scores) / np.exp(2 * scores).sum(-1, keepdims=True)
    wanted = -(chances * np.log(chances / sharp)).sum(-1).mean()
    assert (kl.name, kl.unit) == ("-kl", "nats")
    assert evaluate(language_model(2.0), data, kl, language_model()).value == pytest.approx(wanted)
    assert evaluate(language_model(), data, kl, language_model()).value == 0


def test_perplexity_needs_tokens_or_labels():
    with pytest.raises(DataError, match="no input holds tokens"):
        score("perplexity", lambda feed: {"logits": feed["x"][:, None].repeat(3, 1)})
