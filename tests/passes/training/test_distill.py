"""Distillation of small networks, towards the original."""

import json
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'graphpress[torch]'")

from graphpress import torch_bridge
from graphpress.analysis.shapes import infer_shapes
from graphpress.backend import Availability
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.errors import BackendError, DataError, UsageError
from graphpress.ir import clone, constant, save, verify
from graphpress.ir.encoding import encoding_of
from graphpress.ir.sparsity import sparsity_of, sparsity_problems
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.recipe import from_passes
from graphpress.models import build
from graphpress.passes.prune.prune import Prune
from graphpress.passes.quantize.quantize import Quantize
from graphpress.passes.sparsify.sparsify import Sparsify
from graphpress.passes.training import _limits
from graphpress.passes.training.distill import Distill
from graphpress.runtime import Session
from graphpress.targets import load_target
from graphpress.torch_bridge import BridgeError

SHORT = {"batch_size": 16, "augment": "none", "patience": None}


def distill(steps=12, **fields):
    return Distill(**{**SHORT, "steps": steps, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"optimizer": "sgd"},
        {"loss": "mse"},
        {"features": 1.0},
        {"attention": 10.0, "soft_labels": 0.0, "features": 1.0, "learning_rate": 0.05},
        {"mode": "blockwise"},
        {"augment": "shift"},
        {"augment": "flip"},
        {"augment": "auto"},
        {"holdout": 0.0},
    ],
    ids=str,
)
def test_the_model_comes_nearer_to_the_original(network, damaged, context_of, distance, fields):
    before = distance(network, damaged)
    outcome = distill(steps=20, **fields).run(damaged, context_of())
    verify(damaged)
    assert outcome.changes > 10
    assert not outcome.refusals
    assert distance(network, damaged) < 0.9 * before
    assert "20 steps" in " ".join(outcome.notes)


def test_a_pruned_model_with_features_of_the_channels_that_were_kept(network, context_of, distance):
    context = context_of()
    student = clone(network)
    Prune(ratio=0.25).run(student, context)
    assert context.transaction.kept
    infer_shapes(student)
    before = distance(network, student)
    for fields in ({"features": 1.0}, {"mode": "blockwise"}):
        copy = clone(student)
        distill(steps=30, **fields).run(copy, context)
        assert distance(network, copy) < 0.9 * before


def test_labels_beside_the_teacher(network, damaged, context_of):
    labels = np.arange(64) % 4
    outcome = distill(labels=0.5, holdout=0.0, steps=30).run(damaged, context_of(labels=labels))
    assert outcome.changes
    with pytest.raises(DataError, match="no labels"):
        distill(labels=0.5).run(damaged, context_of())
    with pytest.raises(DataError, match="4 classes"):
        distill(labels=0.5).run(damaged, context_of(labels=labels + 1))


def test_several_teachers_are_averaged(network, damaged, context_of, distance, tmp_path):
    other = build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4, seed=3)
    for name, model in (("a", network), ("b", other)):
        save(model, tmp_path / f"{name}.onnx")
    single, both = clone(damaged), clone(damaged)
    first, second = str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")
    distill(teachers=(first,)).run(single, context_of())
    distill(teachers=(first, second)).run(both, context_of())
    plain = clone(damaged)
    distill().run(plain, context_of())
    assert distance(plain, single) < 1e-9, "the file holds the original"
    assert distance(other, both) < distance(other, single)


def test_a_teacher_that_does_not_fit(damaged, context_of, tmp_path):
    save(build("detector", image=32), tmp_path / "t.onnx")
    with pytest.raises(UsageError, match="teacher") as raised:
        distill(teachers=(str(tmp_path / "t.onnx"),)).run(damaged, context_of())
    assert "student has" in raised.value.what


def test_a_teacher_that_answers_in_another_shape(damaged, context_of, tmp_path, weights):
    save(build("resnet", depth=8, stem="cifar", width=4, image=8, classes=5), tmp_path / "t.onnx")
    before = weights(damaged)
    with pytest.raises(UsageError, match=r"answer in shape \[\d+, 5\], the student in \[\?, 4\]"):
        distill(teachers=(str(tmp_path / "t.onnx"),)).run(damaged, context_of())
    assert weights(damaged) == before


def test_a_teacher_that_is_not_there(damaged, context_of, tmp_path):
    with pytest.raises(UsageError, match="no such model file"):
        distill(teachers=(str(tmp_path / "t.onnx"),)).run(damaged, context_of())


def test_very_few_samples_are_not_called_held_out(damaged, context_of, images):
    notes = distill(steps=2).run(damaged, context_of(data={"input": images[:2]})).notes
    assert any("none being held out" in note for note in notes)
    assert not any("held-out" in note for note in notes)


def test_repeated_from_its_decisions(damaged, context_of, weights):
    context, again = context_of(), clone(damaged)
    Distill(minutes=0.02, batch_size=16).run(damaged, context)
    replayed = context_of(decisions=context.decisions)
    Distill(minutes=0.02, batch_size=16).run(again, replayed)
    assert weights(again) == weights(damaged)
    assert list(context.decisions) == ["0.distill"]
    assert replayed.decisions == context.decisions


def test_never_worse_by_its_own_measure(network, context_of, weights):
    student = clone(network)
    outcome = distill(steps=10, learning_rate=10.0).run(student, context_of())
    assert outcome.changes == 0
    assert weights(student) == weights(network)


def test_it_stops_early(damaged, context_of):
    outcome = distill(steps=800, patience=2, learning_rate=0.3).run(damaged, context_of())
    assert "stopped early" in outcome.notes[0]


def test_a_loss_that_is_no_number_leaves_the_model_alone(damaged, context_of, weights):
    before = weights(damaged)
    with pytest.raises(UsageError, match="no number") as raised:
        distill(loss="mse", optimizer="adam", learning_rate=1e30).run(damaged, context_of())
    assert "learning_rate" in raised.value.fix
    assert weights(damaged) == before


def test_bad_data(damaged, context_of, images, weights):
    before = weights(damaged)
    bad = images.copy()
    bad[7, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="infinite or undefined"):
        distill().run(damaged, context_of(data={"input": bad}))
    with pytest.raises(DataError, match="no samples"):
        distill().run(damaged, context_of(calibration=[]))
    assert weights(damaged) == before


def test_too_little_memory(damaged, context_of, monkeypatch, weights):
    before = weights(damaged)
    monkeypatch.setattr(_limits, "available_memory", lambda: 100_000)
    with pytest.raises(UsageError, match="GiB") as raised:
        distill().run(damaged, context_of())
    assert "batch_size (now 16)" in raised.value.fix
    assert weights(damaged) == before


def test_without_data_it_refuses(damaged, context_of):
    assert distill().refuse(damaged, context_of(calibration=None)) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 0},
        {"minutes": -1.0},
        {"batch_size": 0},
        {"temperature": 0.0},
        {"soft_labels": 0.0},
        {"features": -1.0},
        {"attention": float("nan")},
        {"holdout": 0.9},
        {"learning_rate": float("nan")},
        {"mode": "blockwise", "features": 1.0},
    ],
    ids=str,
)
def test_fields_that_make_no_sense(fields):
    with pytest.raises(UsageError):
        Distill(**fields)


def test_excluded_nodes_keep_their_weights(damaged, context_of):
    convolutions = [node for node in damaged.graph if node.op_type == "Conv"]
    first, second = (constant(node.inputs[1]).copy() for node in convolutions[:2])
    distill().run(damaged, context_of(exclude=re.compile(f"^{re.escape(convolutions[0].name)}$")))
    np.testing.assert_array_equal(constant(convolutions[0].inputs[1]), first)
    assert not np.array_equal(constant(convolutions[1].inputs[1]), second)


def test_images_where_there_are_none(context_of, damage):
    model = build("bert")
    feed = {spec.name: np.ones((4, 8), np.int64) for spec in Session(model).inputs}
    with pytest.raises(UsageError, match="no input that holds images"):
        distill(augment="shift").run(clone(model), context_of(model, data=feed))
    infer_shapes(model)
    student = damage(model)
    assert distill(augment="auto").run(student, context_of(model, data=feed)).changes


def test_quantized_weights_train(network, damaged, context_of, distance):
    context = context_of(target=load_target("x86-avx512-vnni"))
    Quantize().run(damaged, context)
    before = clone(damaged)
    outcome = distill(steps=20, learning_rate=0.01).run(damaged, context)
    assert outcome.changes
    verify(damaged)
    first = next(node for node in damaged.graph if node.op_type == "Conv")
    assert encoding_of(first.inputs[1]) is not None
    legal = [OnnxRuntimeBackend().prepare(model, context.target).delivered for model in (before, damaged)]
    assert distance(network, legal[1]) < 0.9 * distance(network, legal[0])


def test_quantized_weights_keep_near_by_themselves(network, context_of):
    """Rounding needs adjusting, not relearning: the rate that we choose is lower, and does no harm."""
    context = context_of(target=load_target("x86-avx512-vnni"))
    student = clone(network)
    Quantize().run(student, context)
    outcome = distill(steps=20).run(student, context)
    start, best = re.search(r"loss (\S+) -> (\S+) ", outcome.notes[0]).groups()
    assert float(best) <= float(start)


def test_zeros_of_sparse_weights_stay(network, context_of, distance):
    student, context = clone(network), context_of()
    Sparsify(pattern="2:4").run(student, context)
    sparse = [value for value in student.graph.initializers.values() if sparsity_of(value) is not None]
    masks = {value.name: constant(value) != 0 for value in sparse}
    before = distance(network, student)
    for fields in ({}, {"mode": "blockwise"}):
        copy = clone(student)
        distill(steps=20, **fields).run(copy, context)
        assert distance(network, copy) < before
        assert not sparsity_problems(copy)
        for name, mask in masks.items():
            value = copy.graph.initializers[name]
            assert sparsity_of(value) is not None
            assert not constant(value)[~mask].any()


def test_without_torch(damaged, context_of, monkeypatch):
    absent = Availability(False, "torch is not installed", "pip install 'graphpress[torch]'")
    monkeypatch.setattr(torch_bridge, "available", lambda: absent)
    with pytest.raises(BackendError, match="needs PyTorch") as raised:
        distill().run(damaged, context_of())
    assert raised.value.fix == "pip install 'graphpress[torch]'"


def test_what_the_bridge_cannot_translate_is_a_refusal(damaged, context_of, monkeypatch, weights):
    def refuse(*arguments, **options):
        raise BridgeError("no translation of Strange", where="node 7", fix="leave training out")

    before = weights(damaged)
    monkeypatch.setattr(torch_bridge, "to_module", refuse)
    outcome = distill().run(damaged, context_of())
    assert (outcome.changes, outcome.refusals[0].where, outcome.refusals[0].fix) == (0, "node 7", "leave training out")
    assert weights(damaged) == before


def test_half_precision_is_not_trained():
    _limits.check_precision({"w": torch.zeros(2)}, "distill")
    with pytest.raises(UsageError, match="half precision") as raised:
        _limits.check_precision({"w": torch.zeros(2), "h": torch.zeros(2, dtype=torch.float16)}, "distill")
    assert "'h'" in raised.value.what


def test_a_model_that_answers_as_its_teacher_is_left_alone(network, context_of, weights):
    student = clone(network)
    outcome = distill(steps=1000).run(student, context_of())
    assert outcome.changes == 0
    assert "0 steps" in outcome.notes[0]
    assert "nothing to learn" in outcome.notes[1]


@pytest.mark.parametrize("fails", [False, True])
def test_in_one_transaction_with_pruning(network, context_of, distance, weights, fails):
    context = context_of(transaction=None)
    before = weights(network)
    passes = [Prune(ratio=0.25), distill(learning_rate=1e30, loss="mse") if fails else distill(steps=20)]
    manager = Manager(context, NoEvaluator(), [next(iter(context.calibration))])
    if fails:
        with pytest.raises(UsageError, match="no number"):
            manager.run(network, from_passes(passes))
    else:
        pruned = manager.run(network, from_passes(passes[:1])).checkpoints[-1].model
        run = manager.run(network, from_passes(passes))
        assert run.checkpoints[-1].transactions == ("prune+reconstruct+distill",)
        assert distance(network, run.checkpoints[-1].model) < distance(network, pruned)
        json.dumps(context.decisions)
    assert weights(network) == before


def test_inner_values_are_found_past_a_mask(context_of):
    """Every block of an encoder reads the attention mask: it depends on no weight, and may pass beside a cut."""
    model, random = build("bert", sequence=8), np.random.default_rng(0)
    infer_shapes(model)
    ids = random.integers(0, 100, (16, 8))
    data = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    outcome = distill(steps=1, features=1.0).run(model, context_of(model, data=data))
    taught = outcome.notes[0].partition(": ")[2].split(", ")
    assert {name.split("/")[3] for name in taught} == {"0", "1"}
