"""Windows of nodes, and the halos that they need around what they read."""

from __future__ import annotations

from graphpress.backends.tvm.kernels.plane import Halo, Plane
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.ir import Graph, Node, NodeView, Value, input_of, is_standard, static_shape
from graphpress.ops.semantics.window import WindowAttributes


def window_of(node: Node, plane: Plane) -> TapWindow:
    """The window of a convolution or pool over a plane of one or two spatial axes."""
    view = NodeView.of(node)
    return _window(node, view, (plane.height, plane.width))


def halos(graph: Graph) -> dict[Value, Halo]:
    """Pixels around each value that convolutions read."""
    result: dict[Value, Halo] = {}
    for node in graph:
        if is_standard(node, "Conv") and (halo := _halo(node)) is not None:
            value = node.inputs[0]
            assert value is not None
            result[value] = result.get(value, Halo()).around(halo)
    return result


def _halo(node: Node) -> Halo | None:
    size, result = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if size is None or result is None or len(size) != 4:
        return None
    window = _window(node, NodeView.of(node), (size[2], size[3]))
    after = [
        max(0, (count - 1) * stride + (taps - 1) * step - pad - (length - 1))
        for count, stride, taps, step, pad, length in zip(
            result[2:], window.strides, window.taps, window.dilations, window.pads, size[2:], strict=True
        )
    ]
    return Halo(window.pads[0], window.pads[1], after[0], after[1])


def _window(node: Node, view: NodeView, size: tuple[int, int]) -> TapWindow:
    taps = view.integers("kernel_shape") or _taps(node)
    if len(taps) != 2:
        raise refused(node, f"its window has {len(taps)} axes")
    whole = WindowAttributes.of(view).over(taps, size)
    (top, _), (left, _) = whole.padding
    return TapWindow((taps[0], taps[1]), _pair(whole.strides), _pair(whole.dilations), (top, left))


def _taps(node: Node) -> tuple[int, ...]:
    shape = static_shape(input_of(node, 1))
    return () if shape is None else shape[2:]


def _pair(numbers: tuple[int, ...]) -> tuple[int, int]:
    return numbers[0], numbers[1]
