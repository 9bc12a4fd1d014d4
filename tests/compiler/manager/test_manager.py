"""What the manager does with passes that work, lie, crash, refuse, miss the budget or never stop."""

import time

import numpy as np
import pytest

from graphpress.errors import DataError, GraphpressError, PassError, ResourceError
from graphpress.ir import serialize
from graphpress.manager.contract import Outcome
from graphpress.manager.recipe import Recipe, from_passes
from graphpress.targets import Target


def statuses(run):
    return {record.name: record.status for record in run.records()}


def notes(run, name):
    return " ".join(next(record.notes for record in run.records() if record.name == name))


# -- lossless passes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verification", ["final", "each"])
def test_a_lossless_pass_that_changes_the_outputs_is_found_named_and_dropped(
    run, passes, network, first_weight, verification
):
    done = run(passes.Harmless(), passes.Wrong(), passes.Harmless(), verification=verification)
    assert [record.status for record in done.records()] == ["applied", "rolled_back", "applied"]
    assert "dropped: output 'logits' differs by" in notes(done, "wrong")
    result = done.checkpoints[-1]
    np.testing.assert_array_equal(first_weight(result.model), first_weight(network))
    assert result.changes == 1


def test_two_wrong_passes_are_both_found(run, passes):
    class Other(passes.Wrong):
        name = "other"

    done = run(Other(), passes.Harmless(), passes.Wrong())
    assert statuses(done) == {"other": "rolled_back", "harmless": "applied", "wrong": "rolled_back"}


def test_without_verification_nobody_is_dropped(run, passes):
    assert statuses(run(passes.Wrong(), verification="none")) == {"wrong": "applied"}


@pytest.mark.parametrize("verification", ["none", "final", "each"])
def test_a_lossless_pass_that_crashes_leaves_no_trace(run, passes, network, first_weight, verification):
    done = run(passes.Harmless(), passes.Crashing(), verification=verification)
    assert statuses(done) == {"harmless": "applied", "crashing": "rolled_back"}
    assert "it failed (IndexError: list index out of range)" in notes(done, "crashing")
    np.testing.assert_array_equal(first_weight(done.checkpoints[-1].model), first_weight(network))


BROKEN = {
    "Crashing": "IndexError: list index out of range",
    "CrashingLossy": "IndexError: list index out of range",
    "Mute": "TypeError: its outcome is of type NoneType, not Outcome",
    "Undecided": "KeyError: 'w'",
    "UndecidedLossy": "KeyError: 'w'",
    "Garbling": "its result is no valid model: ",
    "Breaking": "its result is no valid model: ",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_bug_of_a_pass_is_named_and_the_rest_goes_on(run, passes, network, first_weight, kind):
    done = run(passes.Harmless(), getattr(passes, kind)(), passes.Fuses(), target=Target("t", "a target"))
    record = done.records()[1]
    assert record.failure.startswith(BROKEN[kind])
    assert (record.status, record.changes) == ("rolled_back", 0)
    assert done.records()[0].failure == ""
    assert done.checkpoints[-1].changes == 1
    np.testing.assert_array_equal(first_weight(done.checkpoints[-1].model), first_weight(network))


@pytest.mark.parametrize("kind", BROKEN)
def test_a_strict_run_ends_with_it(run, passes, kind):
    with pytest.raises(PassError, match="the pass failed") as raised:
        run(passes.Harmless(), getattr(passes, kind)(), strict=True)
    assert raised.value.where == getattr(passes, kind).name
    assert BROKEN[kind] in raised.value.what
    assert raised.value.exit_code == 1


class Unspeakable(Exception):  # noqa: N818
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SystemExit(0), "SystemExit: 0"),
        (GeneratorExit(), "GeneratorExit"),
        (AssertionError(), "AssertionError"),
        (ValueError("two\nlines"), "ValueError: two lines"),
        (Unspeakable(), "Unspeakable: it has no message"),
        (FileNotFoundError(2, "No such file or directory", "x"), "FileNotFoundError: [Errno 2]"),
    ],
    ids=repr,
)
def test_whatever_a_pass_raises_is_its_failure_on_one_line(run, passes, error, says):
    class Raising(passes.Harmless):
        name = "raising"

        def run(self, model, context):
            raise error

    (record,) = run(Raising()).records()
    assert record.failure.startswith(says)
    assert "\n" not in record.failure


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)], ids=repr)
def test_whoever_wants_the_run_to_end_is_heeded(run, passes, error):
    class Slow(passes.Harmless):
        name = "slow"

        def run(self, model, context):
            raise error

    with pytest.raises(type(error)):
        run(Slow())


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (Outcome("many"), "its count of changes is of type str"),
        (Outcome(-3), "it counts -3 changes"),
        (Outcome(1, ["no refusal"]), "one of its refusals is of type str"),
        (Outcome(1, [], [7]), "one of its notes is of type int"),
    ],
)
def test_an_outcome_that_is_none_is_a_bug(run, passes, outcome, says):
    class Confused(passes.Harmless):
        name = "confused"

        def run(self, model, context):
            return outcome

    (record,) = run(Confused()).records()
    assert says in record.failure


def test_a_refusal_that_is_none_is_a_bug(run, passes):
    class Chatty(passes.Harmless):
        name = "chatty"

        def refuse(self, model, context):
            return "not today"

    (record,) = run(Chatty()).records()
    assert "its refusal is of type str" in record.failure


def test_a_model_that_no_runtime_loads_is_a_bug(run, passes):
    class Emptying(passes.Harmless):
        name = "emptying"

        def run(self, model, context):
            convolutions = [node for node in model.graph if node.op_type == "Conv"]
            for node in convolutions:
                node.attributes.clear()
                node.op_type = "Relu"
            return Outcome(len(convolutions))

    (record,) = run(Emptying()).records()
    assert record.failure.startswith("its result is no valid model: ONNX Runtime cannot load it")


def test_other_numbers_are_no_bug_for_certain(run, passes):
    (record,) = run(passes.Wrong(), strict=True).records()
    assert (record.status, record.failure) == ("rolled_back", "")


@pytest.mark.parametrize("error", ["memory", "disk", "native"])
@pytest.mark.parametrize("kind", ["Starved", "StarvedLossy"])
def test_a_fault_of_the_machine_ends_the_run(run, passes, kind, error):
    with pytest.raises(ResourceError):
        run(passes.Harmless(), getattr(passes, kind)(error))


def test_a_check_that_breaks_names_its_pass(run, passes):
    class Careless(passes.Harmless):
        name = "careless"

        def check(self, context):
            raise ZeroDivisionError("division by zero")

    with pytest.raises(PassError, match="ZeroDivisionError") as raised:
        run(Careless())
    assert raised.value.where == "careless"


def test_a_pass_that_breaks_only_when_it_is_repeated_is_found(run, passes):
    calls = []

    class Moody(passes.Harmless):
        name = "moody"

        def run(self, model, context):
            calls.append(1)
            if len(calls) > 3:
                raise IndexError("no more")
            return super().run(model, context)

    done = run(Moody(), passes.Wrong(), passes.Fuses())
    assert statuses(done)["moody"] == "rolled_back"
    assert done.records()[0].failure == "IndexError: no more"


def test_passes_repeat_until_nothing_changes_and_then_stop(run, passes):
    calls = []
    done = run(passes.Harmless(), hooks={"after_pass": lambda one, model, outcome: calls.append(outcome.changes)})
    assert calls == [1, 0]
    assert done.records()[0].changes == 1


def test_a_pass_that_never_rests_is_stopped_and_says_so(run, passes):
    assert "still changing after 10 rounds" in notes(run(passes.Restless()), "restless")


def test_a_pass_with_nothing_to_do_says_so(run, passes, network):
    done = run(passes.Harmless(), passes.Harmless())
    assert done.records()[1].notes == ("nothing to change",)


def test_the_input_model_is_never_changed(run, passes, network):
    before = serialize(network)
    run(passes.Harmless(), passes.Shrink(), passes.Wrong())
    assert serialize(network) == before


def test_a_model_that_cannot_run_on_the_probes_is_not_compared_and_says_so(run, passes, network):
    network.graph.inputs[0].name = "renamed"
    assert "not compared numerically" in notes(run(passes.Harmless()), "harmless")


# -- lossy passes ----------------------------------------------------------------------------------------------


def test_inside_the_budget_a_transaction_stays(run, passes, evaluator):
    done = run(passes.Shrink(factor=0.95), evaluator=evaluator)
    assert statuses(done) == {"shrink": "applied"}
    assert done.checkpoints[-1].transactions == ("shrink",)
    assert done.checkpoints[-1].metric == pytest.approx(0.95 * evaluator.baseline)
    assert done.missed == []


def test_outside_the_budget_it_is_rolled_back_with_the_reason(run, passes, evaluator, network, first_weight):
    done = run(passes.Shrink(), evaluator=evaluator)
    assert statuses(done) == {"shrink": "rolled_back"}
    assert "fell by 50.00 points, more than the 10.00 points allowed" in notes(done, "shrink")
    assert done.missed == ["shrink"]
    np.testing.assert_array_equal(first_weight(done.checkpoints[-1].model), first_weight(network))


def test_recovery_shares_the_verdict_of_what_it_repairs(run, passes, evaluator):
    done = run(passes.Shrink(), passes.Recover(), evaluator=evaluator)
    assert statuses(done) == {"shrink": "applied", "recover": "applied"}
    assert done.checkpoints[-1].transactions == ("shrink+recover",)
    assert len(evaluator.evaluated) == 1


def test_a_transaction_is_rolled_back_whole_and_the_next_starts_from_before(run, passes, evaluator):
    done = run(passes.Shrink(), passes.Recover(factor=1.1), passes.Shrink(factor=0.97), evaluator=evaluator)
    assert [record.status for record in done.records()] == ["rolled_back", "rolled_back", "applied"]
    assert [record.transaction for record in done.records()] == [0, 0, 1]
    assert done.checkpoints[-1].metric == pytest.approx(0.97 * evaluator.baseline)


def test_without_a_metric_lossy_passes_run_ungated(run, passes):
    done = run(passes.Shrink())
    assert statuses(done) == {"shrink": "applied"}
    assert done.checkpoints[-1].metric is None


@pytest.mark.parametrize(("kind", "reason"), [("CrashingLossy", "it failed (IndexError"), ("Breaking", "dropped: ")])
def test_a_lossy_pass_that_crashes_or_breaks_the_graph_is_rolled_back(
    run, passes, evaluator, network, first_weight, kind, reason
):
    broken = getattr(passes, kind)()
    done = run(broken, passes.Recover(), passes.Shrink(factor=0.95), evaluator=evaluator)
    assert [record.status for record in done.records()] == ["rolled_back", "rolled_back", "applied"]
    assert reason in notes(done, broken.name)
    np.testing.assert_allclose(first_weight(done.checkpoints[-1].model), 0.95 * first_weight(network), rtol=1e-6)


def test_what_a_pass_says_about_the_callers_data_reaches_the_caller(run, passes):
    with pytest.raises(DataError, match="infinite values"):
        run(passes.Infinite())


def test_the_budget_applies_to_a_replay_too(run, passes, evaluator):
    done = run(passes.Shrink(), evaluator=evaluator, decisions={"transaction.0": False})
    again = run(passes.Shrink(), evaluator=evaluator, decisions={"transaction.0": True})
    assert statuses(done) == statuses(again) == {"shrink": "rolled_back"}


# -- refusals ----------------------------------------------------------------------------------------------


def test_a_pass_that_lacks_data_is_refused_and_its_recovery_has_nothing_to_do(run, passes):
    done = run(passes.Hungry(), passes.Recover())
    assert done.records()[0].status == "refused"
    assert [(one.pass_name, one.fix) for one in done.refusals()] == [("hungry", "give it with --data FILE")]
    assert done.records()[1].changes == 0
    assert "nothing to recover from" in notes(done, "recover")


def test_what_the_last_pass_lacks_is_said_before_the_first_one_runs(run, passes):
    class Demanding(passes.Shrink):
        name = "demanding"

        def check(self, context):
            raise DataError("needs a library")

    calls = []
    with pytest.raises(DataError, match="needs a library"):
        run(passes.Harmless(), Demanding(), hooks={"before_pass": lambda one, model: calls.append(one)})
    assert calls == []


def test_refusals_of_a_pass_stand_in_the_record(run, passes):
    (refusal,) = run(passes.Shrink()).refusals()
    assert (refusal.pass_name, refusal.where, refusal.why, refusal.fix) == (
        "shrink",
        "fc",
        "too small to shrink",
        "leave it",
    )


def test_a_fusion_runs_where_it_pays_or_where_it_was_named(run, passes):
    pays = Target("pays", "", fused_operators=("Attention",))
    unasked = Recipe((passes.Fuses(),))
    assert statuses(run(unasked, target=pays)) == {"fuses": "applied"}
    refused = run(unasked)
    assert statuses(refused) == {"fuses": "refused"}
    assert "does not pay on test" in refused.refusals()[0].why
    assert statuses(run(from_passes([passes.Fuses()]))) == {"fuses": "applied"}


def test_after_the_time_limit_no_pass_starts(run, passes):
    done = run(passes.Harmless(), passes.Shrink(), deadline=time.monotonic() - 1)
    assert statuses(done) == {"harmless": "refused", "shrink": "refused"}
    assert {one.fix for one in done.refusals()} == {"raise --time-limit"}


def test_the_time_limit_ends_a_run_of_lossless_passes(run, passes):
    deadline = time.monotonic() + 1.0

    class Slow(passes.Restless):
        def run(self, model, context):
            time.sleep(max(0.0, deadline - time.monotonic()) + 0.01)
            return super().run(model, context)

    done = run(Slow(), passes.Shrink(), deadline=deadline)
    assert [record.status for record in done.records()] == ["applied", "refused"]
    assert "the time limit was reached" in notes(done, "restless")


def test_a_lossless_pass_that_had_no_turn_is_refused_rather_than_applied(run, passes):
    class Slow(passes.Harmless):
        def run(self, model, context):
            time.sleep(0.15)
            return super().run(model, context)

    done = run(Slow(), passes.Restless(), deadline=time.monotonic() + 0.1)
    assert [record.status for record in done.records()] == ["applied", "refused"]
    assert [one.why for one in done.refusals()] == ["the time limit was reached"]
    assert "the time limit was reached" not in notes(done, "harmless")


# -- hooks -------------------------------------------------------------------------------------------------


def test_hooks_are_called_in_order(run, passes, evaluator):
    calls = []
    hooks = {
        "before_pass": lambda one, model: calls.append(("before", one.name)),
        "after_pass": lambda one, model, outcome: calls.append(("after", one.name)),
        "on_transaction": lambda ones, model, verdict: calls.append(("on", [one.name for one in ones], verdict.drop)),
    }
    run(passes.Shrink(), passes.Recover(), evaluator=evaluator, hooks=hooks)
    assert calls == [
        ("before", "shrink"),
        ("after", "shrink"),
        ("before", "recover"),
        ("after", "recover"),
        ("on", ["shrink", "recover"], 0.0),
    ]


def test_before_pass_sees_the_model_that_the_pass_gets(run, passes, evaluator, first_weight):
    seen = []
    hooks = {"before_pass": lambda one, model: seen.append(float(np.abs(first_weight(model)).max()))}
    run(passes.Shrink(), passes.Recover(), evaluator=evaluator, hooks=hooks)
    assert seen == pytest.approx([evaluator.baseline, evaluator.baseline / 2])


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("Harmless", "before_pass"),
        ("Harmless", "after_pass"),
        ("Shrink", "before_pass"),
        ("Shrink", "after_pass"),
        ("Shrink", "on_transaction"),
    ],
)
def test_a_hook_that_fails_is_not_taken_for_a_failing_pass(run, passes, kind, event):
    def hook(*_):
        raise ZeroDivisionError("division by zero")

    with pytest.raises(GraphpressError, match="hook failed") as raised:
        run(getattr(passes, kind)(), hooks={event: hook})
    assert raised.value.where == event
    assert raised.value.fix
