"""What a pass is: one frozen dataclass whose fields are its Python API, recipe schema, command-line syntax and docs."""

from __future__ import annotations

import inspect
import re
from abc import ABCMeta
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from graphpress.cache import ContentCache
from graphpress.data import Feed
from graphpress.deadline import NO_DEADLINE, Deadline
from graphpress.errors import UsageError, did_you_mean
from graphpress.evaluation import EvaluationService
from graphpress.ir import Editor, Match, Model, Node, OperatorIndex, Refusal, apply_rules, is_standard
from graphpress.manager.records import DecomposedLayer
from graphpress.manager.transaction import Transaction
from graphpress.progress import Progress, Silent
from graphpress.targets import Target
from graphpress.validation import MismatchError, check_fields, conform

P = TypeVar("P", bound="Pass")


@dataclass(frozen=True)
class Context:
    """What a pass may know beside the graph: the facts of the run, its stores, and the place of the pass in it.

    Args:
        target: where the model will run.
        original: the model as it came in, not to be changed.
        calibration: feeds of the calibration data, iterable any number of times; None without data.
        exclude: nodes whose name matches stay as they are in lossy passes.
        hidden: names of nodes that read what opaque operators compute, where there is data: as nothing here runs those,
            the data tells nothing about these, and they stay as they are in lossy passes, too.
        seed: of everything random.
        threads: threads of the runtime.
        progress: where long work tells how far it is.
        decisions: a store that passes write to: choices that rest on measurement, by key. A pass that measures looks
            here first (``recorded``) and records what it decided, so that the same inputs with the same decisions give
            the same bytes.
        cache: keeps expensive results by content; None outside a run.
        checkpoints: folder where long work keeps its state, to be taken up after an interruption; None for nowhere.
        step: position of the running pass in its recipe, for the keys of decisions.
        index: of the model as it stands, which saves a rewrite rule the walk over operators that it does not anchor at;
            None where nobody keeps one.
        transaction: what the running pass shares with its recovery, or with what it recovers from; None for a lossless
            pass, and for one on its own.
        partner: the lossy pass right behind the running one that shares its goal and its transaction, if one does.
        deadline: when the run has to be through: ``progress`` ends loops in time for that, a training ends itself.
        evaluation: measures the user's metric and damage on samples that a pass may choose by; None without data.
    """

    target: Target
    original: Model
    calibration: Iterable[Feed] | None = None
    exclude: re.Pattern[str] | None = None
    hidden: frozenset[str] = frozenset()
    seed: int = 0
    threads: int = 1
    progress: Progress = field(default_factory=Silent)
    decisions: dict[str, Any] = field(default_factory=dict)
    cache: ContentCache | None = None
    checkpoints: Path | None = None
    step: int = 0
    index: OperatorIndex | None = None
    transaction: Transaction | None = None
    partner: Pass | None = None
    evaluation: EvaluationService | None = None
    deadline: Deadline = NO_DEADLINE

    def excluded(self, node: Node) -> bool:
        """Whether lossy passes have to leave this node alone."""
        return self.exclusion(node) is not None

    def exclusion(self, node: Node) -> Refusal | None:
        """Why lossy passes have to leave this node alone, or None."""
        if self.matches_exclude(node):
            return Refusal.at(node, "excluded by the user", "narrow --exclude")
        if node.name in self.hidden:
            return Refusal.at(
                node, "it reads what an operator computes that nothing here can run", "name its library (--custom-ops)"
            )
        return None

    def matches_exclude(self, node: Node) -> bool:
        """Whether the user asked for this node to be left alone."""
        return bool(self.exclude and node.name and self.exclude.search(node.name))

    def recorded(self, key: str, kind: Any) -> Any:
        """The decision that a recorded run made; None where none is recorded under this key.

        Args:
            key: of the decision.
            kind: what it holds, as an annotation: ``dict[str, tuple[float, float]]``, a dataclass, ….

        Raises:
            UsageError: it holds something else.
        """
        decision = self.decisions.get(key)
        if decision is None:
            return None
        try:
            return conform(decision, kind, key)
        except MismatchError as mismatch:
            raise UsageError(
                f"the recorded decision {mismatch.field} {mismatch.what}",
                where="--recipe",
                fix=f"use the manifest.json that a run left behind, unedited ({mismatch.fix})",
            ) from mismatch


@dataclass
class Outcome:
    """What a pass did.

    Args:
        changes: how many changes it made; 0 means that the graph is as before.
        refusals: what it could have changed and did not, with the reason.
        notes: sentences for the report.
        decomposed: layers that became chains, for the report.
    """

    changes: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    decomposed: Sequence[DecomposedLayer] = ()


class PassType(ABCMeta):
    """The type of pass classes: a call with options that the pass does not have says which it has."""

    def __call__(cls: type[P], *values: Any, **options: Any) -> P:  # type: ignore[misc]
        """The pass with these options.

        Raises:
            UsageError: an unknown option, a missing one, or too many values; or what the pass says of its options.
        """
        signature = inspect.signature(cls)
        try:
            signature.bind(*values, **options)
        except TypeError as error:
            known = signature.parameters
            unknown = next((name for name in options if name not in known), None)
            if unknown is None:
                raise UsageError(str(error), where=cls.__name__, fix=f"see help({cls.__name__})") from error
            fix = did_you_mean(unknown, known) if known else "it has no fields"
            raise field_error(cls, MismatchError(unknown, "is not known", fix)) from error
        return type.__call__(cls, *values, **options)  # type: ignore[no-any-return]

    @property
    def __signature__(cls) -> inspect.Signature:
        """That of the constructor, for ``help`` and completion."""
        own = inspect.signature(cls.__init__)  # type: ignore[misc]
        return own.replace(parameters=list(own.parameters.values())[1:], return_annotation=inspect.Signature.empty)


@dataclass(frozen=True)
class Pass(metaclass=PassType):
    """Base of all passes. Stateless: everything mutable lives in locals or in the context.

    Class attributes:
        name: how recipes and the command line call it.
        lossless: the outputs stay the same up to rounding; checked numerically by the manager.
        recovers: repairs the damage of the lossy pass before it, and shares its verdict.
        prepares: gets the model ready for the lossy pass behind it, and is none that anybody asks a recipe for.
        needs_data: cannot run without calibration data.
        gated: done for speed or size, so that the never-worse gate may give it up; a change of the model's task is not.
        emits: the standard operator it creates, if whether that pays is for the target to say.
        requires: built-in recipes and passes that run before it, unless the pipeline has them there already. What a
            recovery pass requires must stand between it and the lossy pass that it recovers from.
    """

    name: ClassVar[str] = ""
    lossless: ClassVar[bool] = True
    recovers: ClassVar[bool] = False
    prepares: ClassVar[bool] = False
    needs_data: ClassVar[bool] = False
    gated: ClassVar[bool] = True
    emits: ClassVar[str | None] = None
    requires: ClassVar[tuple[str, ...]] = ()

    @property
    def followed_by(self) -> tuple[str, ...]:
        """Recovery passes that run behind it, unless the pipeline names one there."""
        return ()

    def joined(self, before: Pass) -> tuple[Pass, Pass] | None:
        """The lossy pass right before it and this one, where the two share one goal and with it a transaction: each
        with that goal, however often it was stated. None where each stands on its own.

        Raises:
            UsageError: they state two goals.
        """
        return None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if own := vars(cls).get("__post_init__"):
            cls.__post_init__ = _behind_the_check(own)  # type: ignore[assignment, method-assign]

    def __post_init__(self) -> None:
        """Check the fields against their annotations. What a subclass checks beyond that comes behind it.

        Raises:
            UsageError: a value of the wrong kind, or a word that is none of the field's.
        """
        try:
            check_fields(self)
        except MismatchError as mismatch:
            raise field_error(type(self), mismatch) from mismatch

    def check(self, context: Context) -> None:
        """Raise at once what would otherwise end the run when the turn of this pass comes: a library that is absent,
        say, after hours of other passes.

        Raises:
            GraphpressError: what the caller has to correct first.
        """

    @property
    def is_goal(self) -> bool:
        """Whether it is what a recipe with it is asked for: lossy, and neither the way there nor what follows."""
        return not (self.lossless or self.recovers or self.prepares)

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Why this pass cannot run on this model at all, or None."""
        if self.needs_data and context.calibration is None:
            return Refusal(self.name, "needs calibration data", "give it with --data FILE")
        return None

    def run(self, model: Model, context: Context) -> Outcome:
        """Change ``model`` in place."""
        raise NotImplementedError


def field_error(kind: type[Pass], mismatch: MismatchError) -> UsageError:
    """What is wrong with a field of a pass, for whoever gave it."""
    name = kind.name or kind.__name__
    fix = f"{mismatch.fix}; see `optimize passes {name}`"
    return UsageError(f"{mismatch.field} {mismatch.what}", where=name, fix=fix)


def _behind_the_check(own: Callable[[Any], None]) -> Callable[[Any], None]:
    """A subclass's own check, behind that of the fields' types."""

    @wraps(own)
    def post_init(self: Pass) -> None:
        Pass.__post_init__(self)
        own(self)

    return post_init


@dataclass(frozen=True)
class RewritePass(Pass):
    """A pass that is one rewrite rule: ``match`` and ``rewrite`` are all there is to write.

    ``root_ops`` are the standard operators at which ``match`` is tried (every node when empty).
    """

    root_ops: ClassVar[tuple[str, ...]] = ()

    def match(self, node: Node) -> Match | Refusal | None:
        """Match, refusal with its reason, or None where this is not the pattern."""
        raise NotImplementedError

    def rewrite(self, match: Match, edit: Editor) -> None:
        """Make the change."""
        raise NotImplementedError

    def count_matches(self, index: OperatorIndex) -> int:
        """In how many places the rule would fit the model as it is."""
        return sum(
            isinstance(self.match(node), Match)
            for indexed in index.graphs
            for node in indexed.nodes(self.root_ops)
            if not self.root_ops or is_standard(node)
        )

    def run(self, model: Model, context: Context) -> Outcome:
        """Apply the rule wherever it fits."""
        done = apply_rules(model, [self], context.index)
        return Outcome(done.count, done.refusals)
