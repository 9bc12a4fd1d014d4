"""The data files of the real models, read and scored: the accuracies are those that were published with them."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from graphpress.data import load_dataset, synthetic_samples
from graphpress.evaluation import drop_interval, evaluate, resolve_metric
from graphpress.runtime import InputSpec, Session

FOLDER = os.environ.get("GRAPHPRESS_DATA")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="GRAPHPRESS_DATA is not set: no real models here")


def session(model: str) -> Session:
    return Session(Path(FOLDER) / f"{model}.onnx")


def accuracy(model: str, data: str, metric: str = "top1", limit: int | None = None):
    model = session(model)
    dataset = load_dataset(Path(FOLDER) / data, model.inputs, limit=limit)
    return evaluate(model.run, dataset.evaluation, resolve_metric(metric, has_labels=True)), dataset


@pytest.mark.parametrize(
    ("model", "expected"),
    [("resnet20_cifar10", 0.910), ("resnet32_cifar10", 0.932)],
)
def test_cifar10(model, expected):
    score, dataset = accuracy(model, "cifar10.yaml")
    assert score.value == pytest.approx(expected, abs=1e-9)
    assert (score.count, dataset.calibration.count, dataset.evaluation.count) == (500, 512, 500)
    assert dataset.notes == ()


@pytest.mark.parametrize(("metric", "expected"), [("top1", 0.578), ("top5", 0.792)])
def test_imagenet(metric, expected):
    score, dataset = accuracy("mobilenet_v1_0.25_224", "imagenet500.yaml", metric)
    assert score.value == pytest.approx(expected, abs=1e-9)
    assert dataset.calibration.count == 125


def test_forgotten_preprocessing_is_reported(tmp_path):
    text = (Path(FOLDER) / "imagenet500.yaml").read_text()
    file = tmp_path / "data.yaml"
    file.write_text(
        re.sub(r"(scale|mean|std): *(\[.*?\]|[^,}\s]+),? *", "", text).replace("source: ", f"source: {FOLDER}/")
    )
    model = session("mobilenet_v1_0.25_224")
    samples = load_dataset(file, model.inputs, limit=100).evaluation
    assert "hardly better than chance" in evaluate(model, samples, resolve_metric("top1", True), model).warning


def test_a_detector_agrees_by_all_its_outputs():
    model = session("yunet_n_320_320")
    samples = synthetic_samples(model.inputs, 1)
    score = evaluate(model, samples, resolve_metric("closeness", False), model)
    assert score.value == 1
    assert "of all 12 outputs" in score.note


def test_mnist_runs_sample_by_sample():
    score, dataset = accuracy("mnist_opt", "mnist.yaml")
    assert score.count == 9488
    assert score.value == pytest.approx(0.9891, abs=0.002)  # published on all 10,000
    assert dataset.evaluation.batch_size == 1
    assert next(iter(dataset.evaluation))["Input3"].shape == (1, 1, 28, 28)


def test_cifar10_jpeg():
    score, _ = accuracy("resnet20_cifar10", "cifar10_jpeg.yaml")
    assert (score.count, score.value) == (4500, pytest.approx(0.8098, abs=5e-5))


def test_two_models_are_compared_sample_by_sample():
    twenty, dataset = accuracy("resnet20_cifar10", "cifar10.yaml")
    thirty_two, _ = accuracy("resnet32_cifar10", "cifar10.yaml")
    interval = drop_interval(thirty_two, twenty)
    assert interval.drop == pytest.approx(0.022)
    assert -0.01 < interval.low < 0.022 < interval.high < 0.06
    agreement = resolve_metric("agreement", has_labels=True)
    score = evaluate(
        session("resnet20_cifar10").run, dataset.evaluation, agreement, reference=session("resnet32_cifar10").run
    )
    assert 0.85 < score.value < 0.97


def test_a_limit_spreads_over_data_sorted_by_class():
    _, dataset = accuracy("mobilenet_v1_0.25_224", "imagenet500.yaml", limit=50)
    labels = dataset.evaluation.labels
    assert len(labels) == 50
    assert labels.max() > 900


def test_grey_images_without_channels(tmp_path):
    file = tmp_path / "data.yaml"
    file.write_text(f"evaluation: {{source: {FOLDER}/fashion_mnist_sprite900.npz, inputs: {{x: x}}, labels: y}}")
    inputs = [InputSpec("x", np.dtype(np.float32), ("N", 1, 28, 28))]
    dataset = load_dataset(file, inputs)
    assert next(iter(dataset.evaluation))["x"].shape == (32, 1, 28, 28)
    assert dataset.evaluation.labels.shape == (900,)


def test_sentences_and_labels(tmp_path):
    (tmp_path / "tokens.py").write_text(
        "import numpy as np\n"
        "def encode(text):\n"
        "    assert isinstance(text, str)\n"
        "    return np.array(([len(word) for word in text.split()] + [0] * 64)[:64])\n"
    )
    file = tmp_path / "data.yaml"
    file.write_text(
        f"evaluation: {{source: {FOLDER}/sst2_dev.tsv, inputs: {{ids: sentence}}, labels: label}}\n"
        "preprocess: {ids: {function: 'tokens:encode'}}\n"
    )
    dataset = load_dataset(file, [InputSpec("ids", np.dtype(np.int64), ("N", "T"))])
    assert dataset.evaluation.count == 6735
    assert set(dataset.evaluation.labels.tolist()) == {0, 1}
    assert next(iter(dataset.evaluation))["ids"].shape == (32, 64)


def test_word_labels_and_text_inputs_without_header(tmp_path):
    file = tmp_path / "data.yaml"
    classes = "[World, Sports, Business, Sci/Tech]"
    labels = f"{{column: 1, classes: {classes}}}"
    file.write_text(f"evaluation: {{source: {FOLDER}/agnews_dev.tsv, inputs: {{text: 0}}, labels: {labels}}}")
    dataset = load_dataset(file, [InputSpec("text", np.dtype(object), ("N", 1))])
    feed, labels = next(dataset.evaluation.batches())
    assert feed["text"].shape == (32, 1)
    assert isinstance(feed["text"][0, 0], str)
    assert labels[0] == 3
    assert dataset.evaluation.count == 10_001
