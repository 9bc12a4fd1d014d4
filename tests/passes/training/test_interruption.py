"""A distillation that is killed goes on where it was, to the same bytes."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from graphpress.analysis.shapes import infer_shapes
from graphpress.ir import constant, load, save
from graphpress.passes.training.distill import Distill

FIELDS = {"steps": 60, "batch_size": 16, "checkpoint_seconds": 0.0, "patience": None}

CHILD = """
import sys
from pathlib import Path
import numpy as np
from graphpress.analysis.shapes import infer_shapes
from graphpress.data.feeds import FeedSamples
from graphpress.ir import load, save
from graphpress.manager.contract import Context
from graphpress.manager.transaction import Transaction
from graphpress.passes.training.distill import Distill
from graphpress.runtime import Session
from graphpress.targets import Target
folder = Path(sys.argv[1])
original, student = load(folder / "original.onnx"), load(folder / "student.onnx")
infer_shapes(student)
samples = FeedSamples([{"input": np.load(folder / "images.npy")}], Session(original).inputs)
settings = {"checkpoints": folder / "checkpoints", "transaction": Transaction(original)}
context = Context(Target("test", "a target"), original, samples, **settings)
outcome = Distill(**FIELDS).run(student, context)
save(student, folder / "trained.onnx")
print(outcome.notes)
"""


@pytest.fixture
def folder(network, damaged, images, tmp_path):
    save(network, tmp_path / "original.onnx")
    save(damaged, tmp_path / "student.onnx")
    np.save(tmp_path / "images.npy", images)
    return tmp_path


def start(folder):
    code = CHILD.replace("FIELDS", repr(FIELDS))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


def wait_for_a_state(process, folder):
    while process.poll() is None:
        if list(folder.glob("checkpoints/*.pt")):
            return
        time.sleep(0.005)
    pytest.fail(process.communicate()[1].decode())


@pytest.mark.slow
def test_killed_and_taken_up(folder, damaged, context_of, weights):
    child = start(folder)
    wait_for_a_state(child, folder)
    child.kill()
    child.communicate()
    assert not (folder / "trained.onnx").exists()

    said, errors = start(folder).communicate(timeout=120)
    assert "taken up at step" in said.decode(), errors.decode()
    assert not list(folder.glob("checkpoints/*.pt")), "nothing is left when it is done"

    plain = load(folder / "student.onnx")
    infer_shapes(plain)
    Distill(**FIELDS).run(plain, context_of())
    assert weights(load(folder / "trained.onnx")) == weights(plain)


def test_other_trainings_have_states_of_their_own(damaged, context_of, images, tmp_path):
    context = context_of(cache=True)
    distillation = Distill(steps=3)
    files = {
        distillation._state_file(damaged, context, [context.original]),
        Distill(steps=4)._state_file(damaged, context, [context.original]),
        distillation._state_file(context.original, context, [context.original]),
        distillation._state_file(damaged, context, [damaged]),
        distillation._state_file(damaged, context_of(cache=True, seed=1), [context.original]),
        distillation._state_file(damaged, context_of(cache=True, data={"input": images[:32]}), [context.original]),
    }
    assert len(files) == 6
    same = Distill(steps=3, checkpoint_seconds=1.0)._state_file(damaged, context_of(cache=True), [context.original])
    assert same in files
    assert distillation._state_file(damaged, context_of(), [context.original]) is None


def test_a_broken_state_is_no_obstacle(damaged, context_of):
    context = context_of(cache=True)
    distillation = Distill(steps=3, batch_size=16)
    file = distillation._state_file(damaged, context, [context.original])
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a state")
    first = constant(next(iter(damaged.graph.initializers.values()))).copy()
    outcome = distillation.run(damaged, context)
    assert outcome.changes
    assert "could not be read" in " ".join(outcome.notes)
    assert not np.array_equal(first, constant(next(iter(damaged.graph.initializers.values()))))
    assert not file.exists()
