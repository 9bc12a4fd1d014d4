"""Settings are measured once, recorded, found again, and never believed unseen."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

import graphpress
from graphpress.analysis.shapes import infer_shapes
from graphpress.backend import CompileOptions
from graphpress.backends.tvm.kernels.plane import Plane
from graphpress.backends.tvm.kernels.product import Product, Tile
from graphpress.backends.tvm.kernels.stages import Destination
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.tuning import tuner as tuners
from graphpress.backends.tvm.tuning.knobs import knob_of, problem_of, with_recorded
from graphpress.backends.tvm.tuning.tuner import DECISION, lower_tuned
from graphpress.cache import NO_CACHE, ContentCache
from graphpress.errors import UsageError
from graphpress.ir import save
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.targets import load_target

CPU = load_target("cpu")


@pytest.fixture(scope="module")
def network():
    model = build("resnet", depth=20, stem="cifar", width=8, image=16, batch_norm=False)
    prepare(model, {"input": (1, 3, 16, 16)})
    infer_shapes(model)
    return model


class Judge:
    """Stands for measuring: the last variant always wins."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.patience = 1000

    def fastest(self, step, variants, isa, threads):
        if len(self.problems) == self.patience:
            raise KeyboardInterrupt
        self.problems.append(problem_of(step.kernel))
        return variants[-1]


@pytest.fixture
def judge(monkeypatch) -> Judge:
    judge = Judge()
    monkeypatch.setattr(tuners, "fastest", judge.fastest)
    return judge


def options(level="quick", decisions=None, cache=NO_CACHE) -> CompileOptions:
    decisions = {} if decisions is None else decisions
    return CompileOptions(CPU, tuning=level, decisions=decisions, cache=cache)


def kernels(program) -> list:
    """Those that have a knob."""
    return [step.kernel for step in program.steps if knob_of(step.kernel) is not None]


def test_rules_measure_nothing(network, newest, judge):
    given = options("rules")
    program, notes = lower_tuned(network, newest, given)
    assert kernels(program) == kernels(lower(network, newest))
    assert not judge.problems
    assert not notes
    assert given.decisions == {}


def test_each_problem_is_measured_once_and_the_fastest_setting_is_used(network, newest, judge):
    given = options()
    program, notes = lower_tuned(network, newest, given)
    before = kernels(lower(network, newest))
    assert len(before) > len(set(before)) == len(judge.problems) == len(set(judge.problems))
    assert [problem_of(kernel) for kernel in kernels(program)] == [problem_of(kernel) for kernel in before]
    for tuned, rule in zip(kernels(program), before, strict=True):
        assert (tuned != rule) == (len(list(knob_of(rule).settings(rule, newest, 1))) > 1)
    assert given.decisions[DECISION].keys() == set(judge.problems)
    assert notes == [f"settings of {len(judge.problems)} kernels were measured (quick)"]


@pytest.mark.parametrize("kept", ["decisions", "cache"])
def test_what_was_measured_is_found_again(network, newest, judge, kept, tmp_path):
    cache = ContentCache(tmp_path)
    first = options(cache=cache)
    tuned, _ = lower_tuned(network, newest, first)
    judge.problems.clear()
    again = options(decisions=first.decisions) if kept == "decisions" else options(cache=cache)
    program, _ = lower_tuned(network, newest, again)
    assert kernels(program) == kernels(tuned)
    assert again.decisions == first.decisions
    assert not judge.problems


def test_more_effort_counts_for_less_and_not_the_other_way_round(network, newest, judge, tmp_path):
    cache = ContentCache(tmp_path)
    lower_tuned(network, newest, options(cache=cache))
    judge.problems.clear()
    lower_tuned(network, newest, options("deep", cache=cache))
    assert judge.problems
    judge.problems.clear()
    cache_of_deep = ContentCache(tmp_path / "deep")
    lower_tuned(network, newest, options("deep", cache=cache_of_deep))
    judge.problems.clear()
    lower_tuned(network, newest, options(cache=cache_of_deep))
    assert not judge.problems


def test_an_interrupt_keeps_what_was_measured_and_leaves_the_rest_to_the_rules(network, newest, judge, tmp_path):
    judge.patience, cache = 2, ContentCache(tmp_path)
    given = options(cache=cache)
    program, notes = lower_tuned(network, newest, given)
    (note,) = notes
    assert "interrupted" in note
    rules = {problem_of(kernel): kernel for kernel in kernels(lower(network, newest))}
    changed = {problem_of(kernel) for kernel in kernels(program) if kernel != rules[problem_of(kernel)]}
    assert changed == given.decisions[DECISION].keys() == set(judge.problems)
    assert f"{len(rules) - 2} of {len(rules)} kernels" in note
    judge.patience = 1000
    lower_tuned(network, newest, options(cache=cache))
    assert len(judge.problems) == len(set(judge.problems)) == len(rules)


BAD = [None, 7, [], {}, {"rows": 10**9}, {"rows": 1, "columns": 1, "vectors": 1, "row_groups": 7}]
BAD += [{"rows": 1, "columns": 28, "vectors": 4}, {"rows": 1, "columns": 1, "vectors": 1, "unroll": 10**6}]
BAD += [{"rows": 0, "columns": 1, "vectors": 1}, {"rows": 1, "columns": 1, "vectors": 1, "packed": True}]


@pytest.mark.parametrize("record", BAD, ids=str)
def test_recorded_settings_that_do_not_work_are_measured_anew(network, newest, judge, record):
    lower_tuned(network, newest, given := options())
    judge.problems.clear()
    product = next(kernel for kernel in kernels(lower(network, newest)) if isinstance(kernel, Product))
    given.decisions[DECISION][problem_of(product)] = record
    lower_tuned(network, newest, given)
    assert judge.problems == [problem_of(product)]


def test_a_batch_of_products_takes_rows_one_by_one(newest):
    plane = Plane(32, 6, 14, 32)
    batch = Product(plane, Destination(plane), TapWindow(), Tile(1, 7, 2), rowwise=True)
    assert with_recorded(batch, {"rows": 1, "columns": 2, "vectors": 2}, newest) is not None
    assert with_recorded(batch, {"rows": 2, "columns": 2, "vectors": 2}, newest) is None
    assert with_recorded(replace(batch, rowwise=False), {"rows": 2, "columns": 2, "vectors": 2}, newest) is not None


@pytest.mark.parametrize("decision", [None, 7, "x", []])
def test_decisions_of_another_kind_are_made_anew(network, newest, judge, decision):
    lower_tuned(network, newest, options(decisions={DECISION: decision}))
    assert judge.problems


@pytest.mark.usefixtures("here")
def test_a_job_records_in_its_manifest_what_was_measured(judge, tmp_path):
    file = save(build("resnet", depth=8, stem="cifar", width=4, image=8, batch_norm=False), tmp_path / "m.onnx")[0]
    result = graphpress.optimize(file, backend="tvm", tuning="quick", recipe="cleanup", output=tmp_path / "out")
    manifest = json.loads((result.output / "manifest.json").read_text())
    assert manifest["options"]["tuning"] == "quick"
    assert manifest["decisions"][DECISION].keys() == set(judge.problems)


def test_a_backend_that_tunes_nothing_says_so(tmp_path):
    file = save(build("resnet", depth=8, stem="cifar", width=8, image=16), tmp_path / "network.onnx")[0]
    with pytest.raises(UsageError, match=r"--tuning: nothing here measures kernels .*\(onnxruntime\)"):
        graphpress.optimize(file, backend="onnxruntime", tuning="quick", output=tmp_path / "out")


def test_a_tile_is_what_a_record_becomes():
    from graphpress.validation import conform

    assert conform({"rows": 1, "columns": 2, "vectors": 3}, Tile, "tile") == Tile(1, 2, 3)
