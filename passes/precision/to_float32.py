"""Compute in float32 what arrived in another float type, so that passes that need float32 can work on it.

    x: T ─ Conv(W: T) ─ Relu ─ y: T      ⇄      x ─ Cast(float32) ─ Conv(float32(W)) ─ Relu ─ Cast(T) ─ y

Public inputs and outputs keep their types. From float16 and bfloat16 nothing is lost: every number of theirs is one of
float32, and sums are more exact than before. From float64 each number is rounded to 24 bits, and what is beyond float32
becomes its largest number. A node whose operator has no float32 keeps its type between casts, and is named; a model
with values of unknown type, or with such tensors in sequences, is refused as a whole.

The way back is ``reduce_precision``, which keeps float32 where half precision would overflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress.errors import UsageError
from graphpress.ir import DataType, Model, Refusal
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes.precision._widen import Widening

FROM = ("float16", "bfloat16", "float64")
_NAMES = {"float64": "DOUBLE"}


@dataclass(frozen=True)
class ToFloat32(Pass):
    """Computes in float32 what arrived in float16, bfloat16 or float64; inputs and outputs keep their types.

    Args:
        types: the types that become float32.
    """

    name: ClassVar[str] = "to_float32"
    lossless: ClassVar[bool] = False
    prepares: ClassVar[bool] = True

    types: tuple[str, ...] = FROM

    def __post_init__(self) -> None:
        if unknown := set(self.types) - set(FROM):
            raise UsageError(
                f"{', '.join(sorted(unknown))} cannot become float32",
                where=f"{self.name}.types",
                fix=f"choose from {', '.join(FROM)}",
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Convert the model, or say why it cannot be."""
        widening = Widening(model, frozenset(DataType[_NAMES.get(name, name.upper())] for name in self.types))
        values = len(widening.pending)
        if not values:
            return Outcome()
        if obstacles := list(widening.obstacles()):
            return Outcome(refusals=obstacles)
        widening.write()
        why, fix = "its operator has no float32", "nothing: it computes as before, between casts"
        kept = [Refusal.at(node, why, fix) for node in widening.rigid]
        return Outcome(values, kept, [f"{values} values in float32 that were {' or '.join(self.types)}"])
