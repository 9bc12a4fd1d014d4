"""Windows of nodes, and the halos that they need around what they read."""

from __future__ import annotations

from graphpress.backends.tvm.kernels.plane import Halo, Plane
from graphpress.backends.tvm.kernels.window import TapWindow
from graphpress.backends.tvm.lowering.refusal import refused
from graphpress.backends.tvm.lowering.transposition import transposed_halo
from graphpress.ir import Graph, Node, NodeView, Value, input_of, int_attribute, is_standard, static_shape
from graphpress.ops.semantics.window import WindowAttributes


def window_of(node: Node, plane: Plane) -> TapWindow:
    """The window of a convolution or pool over a plane of one or two spatial axes."""
    view = NodeView.of(node)
    return _window(node, view, (plane.height, plane.width))


def halos(graph: Graph) -> dict[Value, Halo]:
    """Pixels around each value that convolutions read; of one shape all alike, so that kernels share code."""
    result: dict[Value, Halo] = {}
    for node in graph:
        around = _halo if is_standard(node, "Conv") else transposed_halo if is_standard(node, "ConvTranspose") else None
        if around is not None and (halo := around(node)) is not None:
            value = node.inputs[0]
            assert value is not None
            result[value] = result.get(value, Halo()).around(halo)
    for node in reversed(list(graph)):
        _hand_back(node, result)
    return _alike(result)


def _alike(halos: dict[Value, Halo]) -> dict[Value, Halo]:
    """Values of one shape with what any of them needs."""
    widest: dict[tuple[int, ...] | None, Halo] = {}
    for value, halo in halos.items():
        shape = static_shape(value)
        widest[shape] = widest.get(shape, Halo()).around(halo)
    return {value: widest[static_shape(value)] if halo != Halo() else halo for value, halo in halos.items()}


def _hand_back(node: Node, result: dict[Value, Halo]) -> None:
    """What is split by channels has the halo that its parts need: they are parts of its memory."""
    value = node.inputs[0] if node.inputs else None
    if value is None or not is_standard(node, "Split") or int_attribute(node, "axis", 0) != 1:
        return
    for part in node.outputs:
        if part in result:
            result[value] = result.get(value, Halo()).around(result[part])


def _halo(node: Node) -> Halo | None:
    size, result = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if size is None or result is None or len(size) not in (3, 4):
        return None
    lengths, counts = ((1, 1, *shape[2:])[-2:] for shape in (size, result))
    window = _window(node, NodeView.of(node), (lengths[0], lengths[1]))
    after = [
        max(0, (count - 1) * stride + (taps - 1) * step - pad - (length - 1))
        for count, stride, taps, step, pad, length in zip(
            counts, window.strides, window.taps, window.dilations, window.pads, lengths, strict=True
        )
    ]
    return Halo(window.pads[0], window.pads[1], after[0], after[1])


def _window(node: Node, view: NodeView, size: tuple[int, int]) -> TapWindow:
    taps = view.integers("kernel_shape") or _taps(node)
    if len(taps) not in (1, 2):
        raise refused(node, f"its window has {len(taps)} axes")
    whole = WindowAttributes.of(view).over(taps, size[-len(taps) :])
    pads = tuple(before for before, _ in whole.padding)
    return TapWindow(_pair(taps, 1), _pair(whole.strides, 1), _pair(whole.dilations, 1), _pair(pads, 0))


def _taps(node: Node) -> tuple[int, ...]:
    shape = static_shape(input_of(node, 1))
    return () if shape is None else shape[2:]


def _pair(numbers: tuple[int, ...], missing: int) -> tuple[int, int]:
    """Of rows and pixels; a line is one row."""
    return (numbers[0] if len(numbers) > 1 else missing), numbers[-1]
