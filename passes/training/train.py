"""The user's own training loop, between a graph and its weights.

    def loop(trainable, context): ...

``trainable.module`` is a ``torch.nn.Module`` that computes what the graph computes: it is called with a mapping from
input names to tensors and returns the outputs by name. ``trainable.parameters`` holds its weights by the name of
their initializer; encodings are fake-quantized. ``context`` is the pass's context: ``calibration`` gives feeds (and
``batches()`` feeds with labels), ``original`` is the input model, ``seed``, ``threads`` and ``progress`` are those of
the run. The loop trains the parameters in place; what it returns is put into the report when it is text. When it
returns, the weights are written back into the graph. If it raises, the graph is as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphpress import torch_bridge
from graphpress.data.user_code import call_user, is_reference, load_object
from graphpress.errors import UsageError
from graphpress.ir import Model
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.passes.training._recovery import need_torch, trains, write_back


@dataclass(frozen=True)
class Train(Pass):
    """Hand the model to a training loop of the user's.

    Args:
        loop: the function, as module:function; called with a trainable model and the context.
    """

    name: ClassVar[str] = "train"
    lossless: ClassVar[bool] = False
    recovers: ClassVar[bool] = True

    loop: str

    def __post_init__(self) -> None:
        if not is_reference(self.loop):
            raise UsageError(
                f"{self.loop!r} names no function", where=f"{self.name}{{loop}}", fix="write loop=module:function"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Load the loop, run it, write the weights back."""
        loop = load_object(self.loop, error=UsageError)
        need_torch()
        trainable = torch_bridge.to_module(model, trainable=trains(context))
        note = call_user(loop, trainable, context, where=self.loop)
        changes = write_back(trainable, model)
        return Outcome(changes, notes=[note] if isinstance(note, str) else [])
