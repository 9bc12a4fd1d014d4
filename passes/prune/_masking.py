"""What the outputs suffer when the least important units of one group alone are taken out: measured damage curves.

    damage_g(f) = E D(model, model without the fraction f of group g)

with D as in ``graphpress.evaluation.sensitivity``. Units are taken out by zeroing their slices in the weights that
write and read them and in what is added to or multiplied with them: shapes stay, and nothing has to be rewired. Through
a normalization over the units' own axis that is an approximation: its statistics still count the zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from graphpress.coupling import Coupling, Group, Place
from graphpress.data import Samples
from graphpress.errors import UsageError
from graphpress.evaluation.sensitivity import SAMPLES, DamageMeasure
from graphpress.ir import Editor, Model, Node, Value, clone, constant, digest, is_standard, label, weight_bytes
from graphpress.ir.files import PROTOBUF_LIMIT
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria import Scores
from graphpress.passes.prune.criteria._data import some_samples
from graphpress.passes.prune.criteria._roles import roles_of
from graphpress.runtime import Session

_WHERE = "allocation sensitivity"


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
        raise UsageError("needs calibration data", where=_WHERE, fix="give it with --data FILE, or take uniform")
    orders = {
        group.name: np.argsort(-scores[group.name], kind="stable") for group in coupling.groups if group.name in scores
    }
    key = _key(model, orders, context, fractions)
    curves = context.cache.get(*key) if key and context.cache is not None else None
    if curves is None:
        curves = _measured(model, coupling, orders, context, fractions)
        if key and context.cache is not None:
            context.cache.put(curves, *key)
    return {name: np.array(values) for name, values in curves.items()}


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
    assert context.calibration is not None
    feeds = some_samples(context.calibration, SAMPLES)
    measure = DamageMeasure.of(Session(model, threads=context.threads), feeds, threads=context.threads, where=_WHERE)
    groups = [group for group in coupling.groups if group.name in orders]
    return {
        group.name: [_damage_without(model, group, orders[group.name], fraction, measure) for fraction in fractions]
        for group in context.progress.track(groups, "sensitivity", total=len(groups))
    }


def _damage_without(model: Model, group: Group, order: np.ndarray, fraction: float, measure: DamageMeasure) -> float:
    """The damage when this fraction of a group's units goes, the last in the order first."""
    gone = np.zeros(group.size, bool)
    gone[order[group.size - round(fraction * group.size) :]] = True
    if not gone.any():
        return 0.0
    copy = clone(model)
    mask(copy, group, gone)
    return measure.damage(copy)


def _key(
    model: Model, orders: Mapping[str, np.ndarray], context: Context, fractions: Sequence[float]
) -> tuple[str, ...] | None:
    """What the result depends on; None where the data has no fingerprint or the model is too large to hash."""
    data = context.calibration
    if context.cache is None or not isinstance(data, Samples) or weight_bytes(model) > PROTOBUF_LIMIT:
        return None
    order = hashlib.sha256(repr([(name, order.tolist()) for name, order in orders.items()]).encode()).hexdigest()
    return "damage", digest(model), data.fingerprint(), order, repr([float(fraction) for fraction in fractions])


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
