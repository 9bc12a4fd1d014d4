"""Move a model to the operator set that its most rewarding fusions need.

Looks for expressions whose fused operator pays on the target (``fused_operators``) but is newer than the model's
operator set, and raises that to the lowest one that has them all, in place: weights and metadata stay what they are.
The target's ``opset_max`` is the limit. Function bodies are raised with the graph.

Refuses, and changes nothing, when one node would mean something else there; the reason names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnx.helper import OP_SET_ID_VERSION_MAP

from graphpress.ir import Editor, Function, Graph, Match, Model, Refusal, graphs, is_standard
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes._kernels import choices_with_opset
from graphpress.passes.fusion._operator import OperatorFusion
from graphpress.passes.fusion._opset import Change, carry_over
from graphpress.passes.fusion.fuse_attention import FuseAttention
from graphpress.passes.fusion.fuse_gelu import FuseGelu
from graphpress.passes.fusion.fuse_group_norm import FuseGroupNorm
from graphpress.passes.fusion.fuse_hard_swish import FuseHardSwish
from graphpress.passes.fusion.fuse_layer_norm import FuseLayerNorm
from graphpress.passes.fusion.fuse_mish import FuseMish
from graphpress.passes.fusion.fuse_rms_norm import FuseRmsNorm
from graphpress.passes.fusion.fuse_softmax import FuseSoftmax
from graphpress.passes.fusion.fuse_swish import FuseSwish
from graphpress.targets import Target

STANDARD = ("", "ai.onnx")
Owner = Graph | Function

FUSIONS: tuple[type[OperatorFusion], ...] = (
    FuseAttention,
    FuseGelu,
    FuseGroupNorm,
    FuseHardSwish,
    FuseLayerNorm,
    FuseMish,
    FuseRmsNorm,
    FuseSoftmax,
    FuseSwish,
)


@dataclass(frozen=True)
class RaiseOpset(Pass):
    """Lossless: the same operators in a newer form, so that later passes may use newer ones.

    Args:
        to: the operator set to raise to, whatever there is to fuse; 0 lets the fusions decide.
    """

    to: int = 0

    name: ClassVar[str] = "raise_opset"

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Refuse an operator set that the target's runtime does not read."""
        limit = context.target.opset_max
        if self.to <= limit:
            return None
        fix = choices_with_opset(context.target, self.to, "leave it out: passes that need a newer one will say so")
        return Refusal(self.name, f"the target reads operator sets up to {limit}", fix)

    def run(self, model: Model, context: Context) -> Outcome:
        """Raise every graph and function that is below the wanted operator set, or none."""
        wanted = self.to or wanted_opset(model, context.target)
        owners: list[Owner] = [model.graph, *model.functions.values()]
        raised = [owner for owner in owners if 0 < _opset(owner) < wanted]
        changes, refusals = _plan(raised, wanted)
        if not raised or refusals:
            return Outcome(refusals=refusals)
        note = f"operator set {min(_opset(owner) for owner in raised)} raised to {wanted}"
        edit = Editor(model)
        for change in changes:
            change(edit)
        for owner in raised:
            _declare(owner, wanted)
        model.ir_version = max(model.ir_version or 0, OP_SET_ID_VERSION_MAP["ai.onnx", wanted])
        return Outcome(len(raised) + len(changes), notes=[note])


def wanted_opset(model: Model, target: Target) -> int:
    """The lowest operator set that has all operators that would pay on the target, 0 when nothing is to be gained."""
    rules = [
        fusion() for fusion in FUSIONS if fusion.emits in target.fused_operators and fusion.opset <= target.opset_max
    ]
    opsets = (
        rule.opset
        for graph in graphs(model)
        for node in graph
        for rule in rules
        if is_standard(node, *rule.root_ops) and isinstance(rule.find_private(node), Match)
    )
    return max(opsets, default=0)


def _plan(owners: list[Owner], wanted: int) -> tuple[list[Change], list[Refusal]]:
    """The changes that express every node in the wanted operator set, and the nodes for which there are none."""
    changes: list[Change] = []
    refusals: list[Refusal] = []
    for owner in owners:
        for node in (node for graph in _with_subgraphs(owner) for node in graph if is_standard(node)):
            steps = carry_over(node, _opset(owner), wanted)
            if isinstance(steps, str):
                why = f"cannot raise the operator set to {wanted}: {steps}"
                refusals.append(Refusal.at(node, why, f"export the model with opset {wanted}"))
            else:
                changes += steps
    return changes, refusals


def _opset(owner: Owner) -> int:
    return next((owner.opset_imports[domain] for domain in STANDARD if domain in owner.opset_imports), 0)


def _declare(owner: Owner, version: int) -> None:
    for graph in _with_subgraphs(owner):
        for domain in [domain for domain in STANDARD if domain in graph.opset_imports] or [""]:
            graph.opset_imports[domain] = version


def _with_subgraphs(owner: Owner) -> list[Owner]:
    return [owner, *owner.subgraphs()]
