"""Models to modules and back. It loads without torch, to report where torch is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

from graphpress.backend import Availability
from graphpress.errors import BackendError, reraise_resource_fault
from graphpress.ir import Model, Value
from graphpress.torch_bridge.weights import is_trainable, may_train

if TYPE_CHECKING:
    import torch

    from graphpress.torch_bridge.module import GraphModule

INSTALL = "pip install 'graphpress[torch]'"


class TrainableModel(Protocol):
    """Anything that trains like a model: ``TorchModel``, or several of its parts in a row."""

    @property
    def module(self) -> Any:
        """What computes: called with a mapping from input names to tensors, it returns outputs and taps by name."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The trainable parameters by the name of their initializer."""
        ...


@dataclass(frozen=True)
class TorchModel:
    """A model as a PyTorch module.

    Args:
        module: what computes: called with a mapping from input names to tensors, it returns outputs and taps by name.
        parameters: its trainable parameters by the name of their initializer.
    """

    module: GraphModule
    parameters: Mapping[str, torch.nn.Parameter]


def available() -> Availability:
    """Whether torch can be imported, with the reason and the install command where not."""
    try:
        import torch
    except Exception as error:  # a broken install fails in many ways
        reraise_resource_fault(error)
        return Availability(False, _reason(error), INSTALL)
    return Availability(True, torch.__version__)


def to_module(
    model: Model, *, taps: Sequence[str] = (), trainable: Callable[[Value], bool] | None = None
) -> TorchModel:
    """The model as a differentiable module. The model is not changed, and may be changed afterwards.

    Args:
        model: what to carry over; encodings become fake quantization with straight-through gradients.
        taps: names of values that are returned beside the graph outputs.
        trainable: which float constants to train; None for every one that is a weight.

    Raises:
        BackendError: torch is not installed.
        BridgeError: operators without a translation, each named; a tap that is no value of the graph.
    """
    _check()
    from graphpress.torch_bridge.module import GraphModule

    @cache
    def trains(value: Value) -> bool:
        return is_trainable(value) if trainable is None else may_train(value) and trainable(value)

    module = GraphModule(model, taps, trains)
    return TorchModel(module, dict(module.named_parameters()))


def write_back(trained: TrainableModel, model: Model) -> int:
    """Write the parameters into the initializers of the same names, in place; encodings are kept and renewed.

    Returns:
        How many constants were written. Those that did not change are not.

    Raises:
        BackendError: torch is not installed.
        BridgeError: an initializer is missing or of another shape, or a parameter is not finite. The model is
            untouched then.
    """
    _check()
    from graphpress.torch_bridge.write_parameters import write_parameters

    return write_parameters(trained.parameters, model)


def _check() -> None:
    here = available()
    if not here.works:
        raise BackendError(f"PyTorch is not available ({here.detail})", where="torch_bridge", fix=here.install)


def _reason(error: Exception) -> str:
    try:
        return f"torch {version('torch')} is installed and fails to import ({type(error).__name__}: {error})"
    except PackageNotFoundError:
        return "torch is not installed"
