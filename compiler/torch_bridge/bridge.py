"""The PyTorch bridge: models to modules and back. It loads without torch, to be able to say that torch is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from graphpress.backend import Availability
from graphpress.errors import BackendError
from graphpress.ir import Model, Value

if TYPE_CHECKING:
    import torch

    from graphpress.torch_bridge.module import GraphModule
    from graphpress.torch_bridge.protocol import TrainableModel

INSTALL = "pip install 'graphpress[torch]'"


@dataclass(frozen=True)
class PytorchModel:
    """A model as a PyTorch module.

    Args:
        module: what computes.
        parameters: its trainable parameters by the name of their initializer.
    """

    module: GraphModule
    parameters: Mapping[str, torch.nn.Parameter]


class PytorchBridge:
    """Carries models into PyTorch and trained weights back."""

    name: str = "pytorch"

    def available(self) -> Availability:
        """Whether torch can be imported, with the reason and the install command where not."""
        try:
            import torch
        except Exception as error:  # a broken install fails in many ways
            return Availability(False, _reason(error), INSTALL)
        return Availability(True, torch.__version__)

    def to_framework(
        self, model: Model, *, taps: Sequence[str] = (), trainable: Callable[[Value], bool] | None = None
    ) -> PytorchModel:
        """The model as a differentiable module; see ``protocol.Bridge``.

        Raises:
            BackendError: torch is not installed.
            BridgeError: operators without a translation, each named; a tap that is no value of the graph.
        """
        self._check()
        from graphpress.torch_bridge.module import GraphModule
        from graphpress.torch_bridge.weights import is_trainable, may_train

        asked = trainable

        @cache
        def trains(value: Value) -> bool:
            return is_trainable(value) if asked is None else may_train(value) and asked(value)

        module = GraphModule(model, taps, trains)
        return PytorchModel(module, dict(module.named_parameters()))

    def write_back(self, trained: TrainableModel, model: Model) -> int:
        """Write the parameters into the initializers of the same names; see ``protocol.Bridge``.

        Raises:
            BackendError: torch is not installed.
            BridgeError: an initializer is missing or of another shape, or a parameter is not finite.
        """
        self._check()
        from graphpress.torch_bridge.write_back import write_back

        return write_back(trained.parameters, model)

    def _check(self) -> None:
        here = self.available()
        if not here.works:
            raise BackendError(f"PyTorch is not available ({here.detail})", where="bridge", fix=here.install)


def _reason(error: Exception) -> str:
    try:
        return f"torch {version('torch')} is installed and fails to import ({type(error).__name__}: {error})"
    except PackageNotFoundError:
        return "torch is not installed"
