"""What the outputs suffer when the least important units of one group alone are taken out: measured damage curves.

    damage_g(f) = E D(model, model without the fraction f of group g)

D is the Kullback-Leibler divergence between the predicted distributions where an output tells classes, else the squared
error of the outputs relative to their power, averaged over the outputs. Both are zero for an unchanged model and mean
the same for every group, so that an allocation can trade one group for another (Li et al., arXiv 1608.08710, section
3.2, with divergence in place of accuracy: it needs no labels and resolves more).

Units are taken out by zeroing their slices in the weights that write and read them and in what is added to or
multiplied with them: shapes stay, and nothing has to be rewired. Through a normalisation over the units' own axis that
is an approximation: its statistics still count the zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphpress.coupling import Coupling, Group, Place
from graphpress.data import Samples
from graphpress.errors import DataError, UsageError
from graphpress.evaluation.outputs import compared
from graphpress.ir import Editor, Model, Node, Value, clone, constant, digest, is_standard, label, weight_bytes
from graphpress.ir.files import PROTOBUF_LIMIT
from graphpress.manager.contract import Context, Feed
from graphpress.observation import batch_of
from graphpress.passes.prune.criteria import Scores
from graphpress.passes.prune.criteria._data import no_samples, some_samples
from graphpress.passes.prune.criteria._outputs import class_scores, log_probabilities
from graphpress.passes.prune.criteria._roles import roles_of
from graphpress.runtime import Session

SAMPLES = 256
"""Samples on which damage is measured."""
FEED_BYTES = 512 << 20
"""Bytes of feeds and outputs that are kept for it, as long as a single feed fits."""
LOST = 1e6
"""Damage where the outputs are no numbers any more."""
_TINY = np.finfo(np.float64).tiny


def damage(
    model: Model, coupling: Coupling, scores: Scores, context: Context, fractions: Sequence[float]
) -> dict[str, np.ndarray]:
    """Measure the damage curve of each group that has scores.

    Args:
        model: not changed.
        coupling: the groups of this very model.
        scores: units of lower score go first, of equal ones the later.
        context: data, threads and cache. Results are kept by the content of model, data and order of the units.
        fractions: of the group's units that are taken out, each in [0, 1].

    Returns:
        By group, the damage at each fraction: ``(fractions,)`` float64, not negative.

    Raises:
        UsageError: there is no calibration data.
        DataError: it is empty, does not fit the model, or makes it answer with NaN.
    """
    if context.calibration is None:
        raise UsageError(
            "needs calibration data", where="allocation sensitivity", fix="give it with --data FILE, or take uniform"
        )
    orders = {
        group.name: np.argsort(-scores[group.name], kind="stable") for group in coupling.groups if group.name in scores
    }
    key = _key(model, orders, context, fractions)
    found = context.cache.get(*key) if key and context.cache is not None else None
    if found is None:
        found = _measured(model, coupling, orders, context, fractions)
        if key and context.cache is not None:
            context.cache.put(found, *key)
    return {name: np.array(values) for name, values in found.items()}


def mask(model: Model, group: Group, units: np.ndarray) -> None:
    """Zero these units of a group in place, so that the model computes what it would without them.

    Args:
        model: a clone whose values have the names that the group's have.
        group: the group.
        units: ``(units,)`` bool, True for each that goes.
    """
    editor, values = Editor(model), _constants(model)
    for place in group.constants:
        if not _silences(place):
            continue
        value = values[label(place.value)]
        array = constant(value)
        assert array is not None
        positions = np.append(units, False)[place.units]  # -1, no unit of the group, reads the last entry
        masked = np.array(array)
        masked[(slice(None),) * place.axis + (positions,)] = 0
        if value.is_initializer():
            editor.set_constant(value, masked)
        else:
            editor.replace(value, editor.add_constant(masked, label(value)))


# -- measuring ------------------------------------------------------------------------------------------------


def _measured(
    model: Model, coupling: Coupling, orders: Mapping[str, np.ndarray], context: Context, fractions: Sequence[float]
) -> dict[str, list[float]]:
    reference = _Reference.of(model, context)
    groups = [group for group in coupling.groups if group.name in orders]
    found: dict[str, list[float]] = {}
    for group in context.progress.track(groups, "sensitivity", total=len(groups)):
        found[group.name] = []
        for fraction in fractions:
            gone = np.zeros(group.size, bool)
            gone[orders[group.name][group.size - round(fraction * group.size) :]] = True
            copy = clone(model)
            mask(copy, group, gone)
            found[group.name].append(reference.distance(copy, context.threads) if gone.any() else 0.0)
    return found


@dataclass(frozen=True)
class _Reference:
    """What the whole model says.

    Args:
        feeds: the data it was asked about.
        outputs: its answers.
        classes: name of the output that tells classes, if one does.
        power: by output, the sum of its squares.
    """

    feeds: list[Feed]
    outputs: list[dict[str, np.ndarray]]
    classes: str | None
    power: dict[str, float]

    @staticmethod
    def of(model: Model, context: Context) -> _Reference:
        """Ask the model about the first samples."""
        session, size = Session(model, threads=context.threads), 0
        feeds: list[Feed] = []
        outputs: list[dict[str, np.ndarray]] = []
        assert context.calibration is not None
        for feed in some_samples(context.calibration, SAMPLES):
            feeds.append(feed)
            outputs.append(session.run(feed))
            size += sum(np.asarray(array).nbytes for array in (*feed.values(), *outputs[-1].values()))
            if size > FEED_BYTES:
                break
        if not feeds:
            raise no_samples()
        power: dict[str, float] = {}
        for answer in outputs:
            for name in compared(answer):
                power[name] = power.get(name, 0.0) + _energy(answer[name])
        if np.isnan(list(power.values())).any():
            raise DataError(
                "the model's outputs on the calibration data are no numbers",
                where="allocation sensitivity",
                fix="check the weights and the calibration data for NaN and infinity",
            )
        return _Reference(feeds, outputs, class_scores(outputs[0], batch_of(feeds[0])), power)

    def distance(self, model: Model, threads: int) -> float:
        """The damage that this model has taken."""
        session = Session(model, threads=threads)
        answers = (session.run(feed) for feed in self.feeds)
        pairs = zip(self.outputs, answers, strict=True)
        found = _divergence(pairs, self.classes) if self.classes is not None else self._error(pairs)
        return found if np.isfinite(found) else LOST

    def _error(self, pairs: Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]) -> float:
        errors = dict.fromkeys(self.power, 0.0)
        for wanted, given in pairs:
            for name in errors:
                if wanted[name].shape != given[name].shape:  # sizes that depend on the data: nothing in common
                    errors[name] += _energy(wanted[name])
                else:
                    errors[name] += _energy(wanted[name].astype(np.float64) - given[name])
        return float(np.mean([errors[name] / max(self.power[name], _TINY) for name in errors])) if errors else 0.0


def _divergence(pairs: Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]], name: str) -> float:
    """Mean KL(original ‖ masked) over the samples."""
    total, count = 0.0, 0
    for wanted, given in pairs:
        theirs, own = log_probabilities(wanted[name]), log_probabilities(given[name])
        possible = np.isfinite(theirs)  # a class that is ruled out adds nothing
        total += float((np.exp(theirs[possible]) * (theirs[possible] - own[possible])).sum())
        count += len(theirs)
    return max(total / max(count, 1), 0.0)


def _energy(array: np.ndarray) -> float:
    return float(np.square(array.astype(np.float64)).sum())


def _key(
    model: Model, orders: Mapping[str, np.ndarray], context: Context, fractions: Sequence[float]
) -> tuple[str, ...] | None:
    """What the result depends on; None where the data has no fingerprint or the model is too large to hash."""
    data = context.calibration
    if context.cache is None or not isinstance(data, Samples) or weight_bytes(model) > PROTOBUF_LIMIT:
        return None
    order = hashlib.sha256(repr([(name, order.tolist()) for name, order in orders.items()]).encode()).hexdigest()
    return "damage", digest(model), data.fingerprint(), order, repr([float(one) for one in fractions])


# -- masking --------------------------------------------------------------------------------------------------

_SCALES_AND_SHIFTS = (
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "RMSNormalization",
)


def _constants(model: Model) -> dict[str, Value]:
    """The constants of the main graph by name."""
    made = {label(node.outputs[0]): node.outputs[0] for node in model.graph if is_standard(node, "Constant")}
    return made | {label(value): value for value in model.graph.initializers.values()}


def _silences(place: Place) -> bool:
    """Whether zeros there take the unit out, at whatever reads the constant. A divisor or a variance must stay."""
    if roles_of(place) & {"writes", "reads"}:
        return True
    return all(_adds_or_multiplies(use.node, use.idx) for use in place.value.uses())


def _adds_or_multiplies(node: Node, index: int) -> bool:
    if is_standard(node, *_SCALES_AND_SHIFTS):
        return index in (1, 2)
    return is_standard(node, "Add", "Mul") or (is_standard(node, "Sub", "Conv", "ConvTranspose", "Gemm") and index > 0)
