"""Runs a pipeline: snapshots, structural and numeric checks, accuracy budget, rollback, records.

A run of lossless passes repeats until nothing changes and is compared with its input once; on a difference the
guilty pass is found by bisection and dropped. A lossy pass and the recovery behind it are one transaction, judged
at its end by the metric against the budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from typing import Any, Protocol

from graphpress.analysis.shapes import infer_shapes
from graphpress.data import Feed
from graphpress.deadline import OutOfTimeError
from graphpress.errors import GraphpressError, ModelError, reraise_resource_fault
from graphpress.ir import Dims, Model, OperatorIndex, Refusal, clone
from graphpress.ir.garbage import paused_collection
from graphpress.ir.opaque import behind_opaque
from graphpress.ir.qdq import is_plain
from graphpress.manager.alternative import alternative
from graphpress.manager.attempt import attempt, blame, check_pass, fault_of, refusal_of, run_pass
from graphpress.manager.contract import Context, Outcome, Pass, RewritePass
from graphpress.manager.evaluator import EvaluationResult, miss
from graphpress.manager.pass_run import PassRun
from graphpress.manager.recipe import EXPLICIT, Recipe
from graphpress.manager.records import TIME_IS_UP
from graphpress.manager.run import Checkpoint, LosslessStage, Run
from graphpress.manager.stages import Stage, stages_of
from graphpress.manager.transaction import Transaction
from graphpress.manager.verification import Probe, Verification
from graphpress.progress import Progress, Silent, doing

MAX_ROUNDS = 10
"""A run of lossless passes that still changes after this many rounds is stopped, with a note."""


class Evaluator(Protocol):
    """Measures a model's metric against the budget."""

    def evaluate(self, model: Model) -> EvaluationResult:
        """Whether the model may stay, and what was measured of it."""
        ...


@dataclass
class Manager:
    """Runs recipes on models.

    Args:
        context: what passes may know.
        evaluator: measures lossy passes.
        probes: inputs for the check of lossless passes.
        verification: how often to check lossless passes numerically: never, once a run, or after each pass.
        deadline: moment (``time.monotonic``) after which no further pass starts.
        shapes: static shapes of the model's values by name, for the sizes in the records.
        strict: a pass that breaks ends the run.
        known: what the model that is given to ``run`` answers to the probes, where it is loaded already.
        progress: watches the stages; that of the context is of the passes, and may end their loops.
    """

    context: Context
    evaluator: Evaluator
    probes: Sequence[Feed]
    verification: Verification = "final"
    deadline: float = float("inf")
    shapes: Mapping[str, Dims] = field(default_factory=dict)
    strict: bool = False
    known: Probe | None = None
    progress: Progress = field(default_factory=Silent)

    def run(self, model: Model, recipe: Recipe) -> Run:
        """Run the recipe on copies of the model, which is the first checkpoint itself: don't change it afterwards.

        Raises:
            PassError: a pass broke, and the run is strict.
            GraphpressError: what a pass says about the caller's data or options, or a fault of the machine.
        """
        for pass_ in recipe.passes:
            check_pass(pass_, self.context)
        run = Run([Checkpoint(model, shapes=self.shapes)])
        self.context.decisions.setdefault(EXPLICIT, sorted(recipe.explicit))
        for stage in self.progress.track(stages_of(recipe.passes), "stages of passes"):
            pass_runs = [
                PassRun(
                    pass_, len(run.pass_runs) + index, transaction=stage.transaction, shapes=run.checkpoints[-1].shapes
                )
                for index, pass_ in enumerate(stage.passes)
            ]
            run.pass_runs += pass_runs
            ready = [pass_run for pass_run in pass_runs if self._admit(pass_run, recipe)]
            if ready and stage.transaction is None:
                start = run.checkpoints[-1]
                run.checkpoints.append(self._run_lossless(ready, start, recipe))
                run.stages.append(LosslessStage(start, ready))
            elif ready:
                self._run_in_time(stage, ready, run, recipe)
            index = OperatorIndex(run.checkpoints[-1].model)
            for pass_run in pass_runs:
                if not self._pays(pass_run.pass_, recipe):
                    self._tell_what_does_not_pay(pass_run, index)
        return run

    def repeat(
        self, pass_runs: Sequence[PassRun], start: Checkpoint, recipe: Recipe
    ) -> tuple[Checkpoint, list[PassRun]]:
        """Run some lossless passes again: the state they lead to, and their records. Those that broke stay out.

        Args:
            pass_runs: of the first time.
            start: the state to begin with.
            recipe: for its hooks.
        """
        again = [
            PassRun(pass_run.pass_, pass_run.position, shapes=pass_run.shapes)
            for pass_run in pass_runs
            if pass_run.status != "rolled_back"
        ]
        return (self._run_lossless(again, start, recipe) if again else start), again

    def _admit(self, pass_run: PassRun, recipe: Recipe) -> bool:
        """Whether the pass gets its turn at all."""
        if self._late():
            pass_run.refuse_for_time()
            return False
        return self._pays(pass_run.pass_, recipe)

    def _pays(self, pass_: Pass, recipe: Recipe) -> bool:
        """Whether the operator that the pass creates pays on the target, or was asked for all the same."""
        pays = pass_.emits is None or pass_.emits in self.context.target.fused_operators
        return pays or pass_.name in recipe.explicit

    def _tell_what_does_not_pay(self, pass_run: PassRun, index: OperatorIndex) -> None:
        """A fusion that was left out is worth a word only where the model has something for it."""
        places: int | None = 1
        if isinstance(pass_run.pass_, RewritePass):
            places = attempt(partial(pass_run.pass_.count_matches, index), pass_run, strict=self.strict)
        if places and pass_run.status == "applied":
            pass_run.refuse(
                Refusal(
                    pass_run.pass_.name,
                    f"fusing into one operator does not pay on {self.context.target.name}",
                    f"name {pass_run.pass_.name} in --passes to have it all the same ({places} places)",
                )
            )

    def _late(self) -> bool:
        return time.monotonic() > self.deadline

    # -- lossless ---------------------------------------------------------------------------------------

    @paused_collection()
    def _run_lossless(self, pass_runs: list[PassRun], start: Checkpoint, recipe: Recipe) -> Checkpoint:
        """Run to a fixed point, check, and drop whoever changes the outputs."""
        with doing("running the model as the lossless passes find it"):
            probe = None if self.verification == "none" else self._probe(start)
        after_each = probe if self.verification == "each" else None
        active = list(pass_runs)
        while True:
            model = clone(start.model)
            with paused_collection():  # what passes drop is of the model that the stage began with, and held by it
                steps, failed = self._to_fixed_point(model, active, recipe, after_each)
            if failed is None and after_each is None and steps:
                failed = self._check(model, probe, start.model, steps)
            if failed is None:
                break
            active = [pass_run for pass_run in active if pass_run is not failed]
            failed.status, failed.changes = "rolled_back", 0
            for pass_run in active:
                pass_run.restart()
        if probe is not None and probe.blind:
            pass_runs[-1].note(f"not compared numerically: {probe.blind}")
        changes = sum(pass_run.changes for pass_run in active)
        if not changes:
            return start
        for pass_run in active:
            pass_run.result = model
        return replace(start, model=model, changes=start.changes + changes, result=None)

    def _probe(self, start: Checkpoint) -> Probe:
        """What the model answers before a run of passes: as it came in, and as it runs, that is known."""
        if self.known is None or self.known.blind or start.changes or not is_plain(start.model):
            return Probe.of(start.model, self.probes)
        return replace(self.known, again=start.model)

    def _to_fixed_point(
        self, model: Model, active: list[PassRun], recipe: Recipe, probe: Probe | None
    ) -> tuple[list[PassRun], PassRun | None]:
        """Run the passes in turn until a whole round changes nothing; with a probe, compare after each change.

        Returns who changed something, in order, and who broke.
        """
        steps: list[PassRun] = []
        index = OperatorIndex(model)
        quiet, turn = 0, 0
        while active and quiet < len(active):
            pass_run = active[turn % len(active)]
            if turn >= MAX_ROUNDS * len(active) or self._late():
                self._stop(active, turn)
                break
            turn += 1
            refusal = self._refusal(pass_run, model)  # asked anew: a pass before may have removed the reason
            if pass_run.failure:
                return steps, pass_run
            if refusal is not None and not pass_run.changes:
                pass_run.refuse(refusal)
                quiet += 1
                continue
            pass_run.status = "applied"
            if recipe.hooks:  # which may change the model
                index.forget()
            outcome = self._try(pass_run, model, recipe, self._context_of(pass_run, index=index))
            if outcome is None or (outcome.changes and probe is not None and self._differs(pass_run, model, probe)):
                return steps, pass_run
            if outcome.changes:
                index.forget()
                steps.append(pass_run)
            quiet = 0 if outcome.changes else quiet + 1
        return steps, None

    def _stop(self, active: list[PassRun], turn: int) -> None:
        """Say why the run ends at this turn; passes that had none yet did not run at all."""
        pass_run = active[turn % len(active)]
        if not self._late():
            pass_run.note(f"still changing after {MAX_ROUNDS} rounds: stopped")
        elif turn >= len(active):
            pass_run.note(f"{TIME_IS_UP}: stopped")
        for late in active[turn:]:
            late.refuse_for_time()

    def _differs(self, pass_run: PassRun, model: Model, probe: Probe | None) -> bool:
        """Whether the model is wrong right after this pass, in structure or against the probe; the note says how."""
        began = time.perf_counter()
        fault = fault_of(model, probe)
        pass_run.verify_seconds += time.perf_counter() - began
        if fault is not None:
            blame(pass_run, fault, strict=self.strict)
        return fault is not None

    def _check(self, model: Model, probe: Probe | None, start: Model, steps: list[PassRun]) -> PassRun | None:
        """Check the structure and, with a probe, the outputs; on a fault, who made it."""
        began = time.perf_counter()
        fault = fault_of(model, probe)
        guilty = None
        if fault is not None:
            guilty = steps[self._bisect(start, probe, steps)]
            if not guilty.failure:
                blame(guilty, fault, strict=self.strict)
        (guilty or steps[-1]).verify_seconds += time.perf_counter() - began
        return guilty

    def _bisect(self, start: Model, probe: Probe | None, steps: list[PassRun]) -> int:
        """Index of the first step after which the model is at fault."""
        good, bad = 0, len(steps)
        while bad - good > 1:
            middle = (good + bad) // 2
            model = clone(start)
            for index, pass_run in enumerate(steps[:middle]):
                self._call(pass_run, model, self._context_of(pass_run))
                if pass_run.failure:
                    return index
            if fault_of(model, probe) is None:
                good = middle
            else:
                bad = middle
        return bad - 1

    # -- lossy ------------------------------------------------------------------------------------------

    def _run_in_time(self, stage: Stage, pass_runs: list[PassRun], run: Run, recipe: Recipe) -> None:
        """Run a transaction; one that the time limit ends leaves the model as it was."""
        try:
            self._run_transaction(stage, pass_runs, run, recipe)
        except OutOfTimeError:
            for pass_run in pass_runs:
                pass_run.refuse_for_time()

    def _run_transaction(self, stage: Stage, pass_runs: list[PassRun], run: Run, recipe: Recipe) -> None:
        """Run a lossy pass and its recovery, then evaluate them together."""
        start = run.checkpoints[-1]
        model = clone(start.model)
        infer_shapes(model)
        changed = self._change(model, pass_runs, recipe, Transaction(start.model))
        if changed is None:
            return
        model = changed
        changes = sum(pass_run.changes for pass_run in pass_runs)
        names = "+".join(pass_run.pass_.name for pass_run in pass_runs if pass_run.status == "applied")
        result = self._evaluation(model, pass_runs[-1])
        if result is None:
            _roll_back(pass_runs)
            return
        verdict = result.verdict
        self._hook(recipe, "on_transaction", [pass_run.pass_ for pass_run in pass_runs], model, verdict)
        if result.passed:
            transactions = (*start.transactions, names)
            shapes = next(pass_run.shapes for pass_run in reversed(pass_runs) if pass_run.changes)
            run.checkpoints.append(
                Checkpoint(model, transactions, result.metric, verdict, start.changes + changes, result, shapes)
            )
            return
        run.missed.append(names)
        run.rejected = model
        _roll_back(pass_runs)
        if verdict is not None:
            pass_runs[-1].note(miss(verdict))

    def _change(self, model: Model, pass_runs: list[PassRun], recipe: Recipe, transaction: Transaction) -> Model | None:
        """Run the passes of a transaction on the model: what it became; None when nothing changed or one of them broke.

        Recovery that the time limit ends is done without.
        """
        for pass_run, following in zip_longest(pass_runs, pass_runs[1:]):
            refusal = self._refusal(pass_run, model, transaction)
            if pass_run.failure:
                _roll_back(pass_runs)
                return None
            if refusal is not None:
                pass_run.refuse(refusal)
                pass_run.alternative = alternative(pass_run.pass_, model, self.context)
                if pass_run is pass_runs[0]:
                    for other in pass_runs[1:]:
                        other.note("nothing to recover from")
                    return None
                continue
            before = clone(model) if pass_run is not pass_runs[0] and self.deadline < float("inf") else None
            partner = following.pass_ if following is not None and following.pass_.is_goal else None
            context = replace(self._context_of(pass_run, transaction=transaction), partner=partner)
            try:
                if self._try(pass_run, model, recipe, context) is None or self._differs(pass_run, model, None):
                    _roll_back(pass_runs)
                    return None
            except OutOfTimeError:
                if before is None:
                    raise
                pass_run.refuse_for_time()
                model = before
        return model if any(pass_run.changes for pass_run in pass_runs) else None

    def _evaluation(self, model: Model, pass_run: PassRun) -> EvaluationResult | None:
        """The verdict, or None where the model cannot even be run. It is never replayed: the budget always applies."""
        began = time.perf_counter()
        try:
            with doing(f"evaluating the result of {pass_run.pass_.name}"):
                result = self.evaluator.evaluate(model)
        except ModelError as error:
            pass_run.note(f"dropped: the result cannot be run ({error.what})")
            return None
        pass_run.measure_seconds += time.perf_counter() - began
        pass_run.metric = result.metric
        return result

    # -- both -------------------------------------------------------------------------------------------

    def _context_of(
        self, pass_run: PassRun, *, index: OperatorIndex | None = None, transaction: Transaction | None = None
    ) -> Context:
        """What this pass may know: only a rewrite rule has a use for the index of the model."""
        index = index if isinstance(pass_run.pass_, RewritePass) else None
        hidden = _hidden(transaction.start) if transaction and self.context.calibration is not None else frozenset()
        return replace(self.context, step=pass_run.position, index=index, transaction=transaction, hidden=hidden)

    def _refusal(self, pass_run: PassRun, model: Model, transaction: Transaction | None = None) -> Refusal | None:
        """Why the pass does not run, or None; also None, with the failure in its record, where it breaks."""
        context = self._context_of(pass_run, transaction=transaction)
        return attempt(partial(refusal_of, pass_run.pass_, model, context), pass_run, strict=self.strict)

    def _call(self, pass_run: PassRun, model: Model, context: Context) -> Outcome | None:
        """Run one pass; None, and the failure in its record, where it breaks."""
        return attempt(partial(run_pass, pass_run.pass_, model, context), pass_run, strict=self.strict)

    def _try(self, pass_run: PassRun, model: Model, recipe: Recipe, context: Context) -> Outcome | None:
        """Run one pass between its hooks. One that breaks must not take the others down: None, and a note says why.

        Args:
            pass_run: the record of the pass, which grows.
            model: changed in place.
            recipe: for its hooks.
            context: what the pass may know.
        """
        self._hook(recipe, "before_pass", pass_run.pass_, model)
        began = time.perf_counter()
        outcome = self._call(pass_run, model, context)
        if outcome is None:
            return None
        pass_run.seconds += time.perf_counter() - began
        pass_run.changes += outcome.changes
        pass_run.refusals = list(outcome.refusals)
        for note in outcome.notes:
            pass_run.note(note)
        pass_run.decomposed = outcome.decomposed
        if outcome.changes:
            pass_run.measure(model)
        self._hook(recipe, "after_pass", pass_run.pass_, model, outcome)
        return outcome

    def _hook(self, recipe: Recipe, event: str, *arguments: Any) -> None:
        hook: Callable[..., None] | None = recipe.hooks.get(event)
        if hook is None:
            return
        try:
            hook(*arguments)
        except GraphpressError:
            raise
        except Exception as error:
            reraise_resource_fault(error)
            raise GraphpressError(
                f"the hook failed ({type(error).__name__}: {error})",
                where=event,
                fix="correct the hook, or leave it out of the recipe",
            ) from error


def _hidden(model: Model) -> frozenset[str]:
    """Names of the nodes of whose operands some cannot be computed here."""
    return frozenset(node.name for node in behind_opaque(model) if node.name)


def _roll_back(pass_runs: list[PassRun]) -> None:
    for pass_run in pass_runs:
        if pass_run.status == "applied":
            pass_run.status = "rolled_back"
