"""TensorRT on the device, as the target's data describes it: the table ``[settings]``, validated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from graphpress.backends.tensorrt.build import Route
from graphpress.targets import Target

Typing = Literal["strong", "weak"]


@dataclass(frozen=True)
class Platform:
    """TensorRT as the device has it.

    Args:
        tensorrt: version on the device, such as ``10.3``.
        product: ``tensorrt``, or ``tensorrt_rtx`` for cards that run its just-in-time engines.
        typing: how networks may be typed, the preferred way first: ``strong`` (types stand in the model) or ``weak``
            (flags allow lower precision).
        capabilities: compute capabilities of the device's GPU, such as ``8.7``.
        proxies: capabilities for which an engine can be built ahead of time, without a GPU, to see what becomes of
            each layer.
        route: how a model becomes a network: ``parser`` (TensorRT's own, of ONNX files) or ``network`` (each operator
            is lowered to TensorRT's layers here).
        built_on_device: engines are not portable: the device builds its own.
        dla: the deep learning accelerator is to be used.
        dla_cores: how many of them the device has.
    """

    tensorrt: str
    product: Literal["tensorrt", "tensorrt_rtx"] = "tensorrt"
    typing: tuple[Typing, ...] = ("strong",)
    capabilities: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    route: Route = "parser"
    built_on_device: bool = True
    dla: bool = False
    dla_cores: int = 0

    @cached_property
    def strong(self) -> bool:
        """Whether the model itself declares every type."""
        return self.typing[0] == "strong"


def platform_of(target: Target) -> Platform:
    """The settings of a target for this backend.

    Raises:
        UsageError: the target has no settings for TensorRT, or invalid ones.
    """
    from pydantic import TypeAdapter, ValidationError

    from graphpress.errors import UsageError

    if not target.settings:
        raise UsageError(
            f"the target {target.name} has no TensorRT settings",
            where=f"--target {target.name}",
            fix="choose a target whose backend is tensorrt (`optimize targets`)",
        )
    try:
        return TypeAdapter(Platform).validate_python(target.settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"says nothing usable to TensorRT ({'.'.join(map(str, first['loc']))}: {first['msg']})",
            where=f"--target {target.name}",
            fix="choose a target whose backend is tensorrt (`optimize targets`)",
        ) from error
