"""Linear operators: convolutions and matrix products, also those on integers.

Axes: the two sides of a contraction are united; the axis of output channels is that of the weight. A grouped
convolution splits both channel axes by group, which gives a product constraint. Cost: multiply-accumulates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from graphpress.ir import Node, int_attribute
from graphpress.ops.atoms import Axes, Axis
from graphpress.ops.rules import broadcast_axes, freeze_inputs, unite_axis, unite_broadcast
from graphpress.ops.shrink import Shrink, count_blocks
from graphpress.ops.spec import AxesRule, Call, CostRule, Flow, OpSpec, Quantization, Role, Work


def entries() -> list[OpSpec]:
    """The operators of this family."""
    return [
        OpSpec("Conv", _conv(1, 2), _conv_cost(1, 2), _anchor(1, 2, _first), shrink=_fewer_groups),
        OpSpec("ConvInteger", _conv(1, None), _conv_cost(1, None), _anchor(1, None, _first), shrink=_fewer_groups),
        OpSpec("QLinearConv", _conv(3, 8), _conv_cost(3, 8), _anchor(3, 8, _first), shrink=_fewer_groups),
        OpSpec("DeformConv", _conv(1, 3), _conv_cost(1, 3), _anchor(1, 3, _first), shrink=_fewer_groups),
        OpSpec("ConvTranspose", _conv_transpose, _conv_transpose_cost, _anchor(1, 2, _second), shrink=_fewer_groups),
        OpSpec("Gemm", _gemm, _gemm_cost, _anchor(1, 2, _gemm_channels)),
        OpSpec("MatMul", _matmul(1), _matmul_cost(1), _anchor(1, None, _last)),
        OpSpec("MatMulInteger", _matmul(1), _matmul_cost(1), _anchor(1, None, _last)),
        OpSpec("QLinearMatMul", _matmul(3), _matmul_cost(3), _anchor(3, None, _last)),
        OpSpec("Einsum", _einsum, _einsum_cost, Quantization(Role.ANCHOR)),
    ]


def _anchor(weight: int, bias: int | None, channel_axis: Callable[[Node, int], int]) -> Quantization:
    return Quantization(Role.ANCHOR, weight, bias, channel_axis=channel_axis)


def _first(node: Node, rank: int) -> int:
    return 0


def _second(node: Node, rank: int) -> int:
    return 1


def _last(node: Node, rank: int) -> int:
    return rank - 1


def _gemm_channels(node: Node, rank: int) -> int:
    return 0 if int_attribute(node, "transB", 0) else 1


# -- convolutions ---------------------------------------------------------------------------------------------


def _conv(weight: int, bias: int | None) -> AxesRule:
    def rule(flow: Flow) -> Sequence[Axes | None]:
        data, kernel = flow.of(0), flow.of(weight)
        _join_groups(flow, data[1], kernel)
        unite_axis(flow.atoms, kernel[0], *_given(flow, bias, _scales_of(flow, weight)))
        return [(data[0], kernel[0], *_spatial(flow, data, kernel))]

    return rule


def _join_groups(flow: Flow, channels: Axis, kernel: Axes) -> None:
    """Channels are (group, index); so are the kernel's output channels, and its axis 1 is the index."""
    groups = flow.integer("group", 1)
    if groups == 1:
        flow.atoms.unite(channels, kernel[1])
        return
    group, index = flow.atoms.split(channels, groups, len(kernel[1]))
    out_group, _ = flow.atoms.split(kernel[0], groups, len(kernel[0]) // groups)
    flow.atoms.unite(group, out_group)
    flow.atoms.unite(index, kernel[1])


def _conv_transpose(flow: Flow) -> Sequence[Axes | None]:
    """The kernel is [inputs, outputs per group, ...]."""
    data, kernel = flow.of(0), flow.of(1)
    groups = flow.integer("group", 1)
    flow.atoms.unite(data[1], kernel[0])
    out = kernel[1]
    if groups > 1:
        group, _ = flow.atoms.split(kernel[0], groups, len(kernel[0]) // groups)
        out = flow.atoms.merge(group, kernel[1])
    unite_axis(flow.atoms, out, *_given(flow, 2))
    return [(data[0], out, *_spatial(flow, data, kernel))]


def _fewer_groups(shrink: Shrink) -> None:
    """As many groups as still have an input channel."""
    groups = shrink.integer("group", 1)
    if groups > 1:
        shrink.edit.set_attributes(shrink.node, group=count_blocks(shrink.read(0, 1), groups))


def _spatial(flow: Flow, data: Axes, kernel: Axes) -> Axes:
    for axis in (*data[2:], *kernel[2:]):
        flow.freeze(axis, "a spatial axis")
    if flow.node.op_type == "DeformConv":
        freeze_inputs(flow, (2, 4), "an offset or mask")
        if flow.integer("offset_group", 1) > 1:
            flow.freeze(data[1], "a run of channels with one offset")
    return flow.fixed(flow.output()[2:], "a spatial axis")


def _scales_of(flow: Flow, weight: int) -> Sequence[int]:
    """Per-channel scale and zero-point of an integer kernel."""
    return {"QLinearConv": (4, 5), "ConvInteger": (3,)}.get(flow.node.op_type, ())


def _given(flow: Flow, bias: int | None, others: Sequence[int] = ()) -> list[Axes]:
    indices = [*others] if bias is None else [bias, *others]
    given = (flow.axes[index] if index < len(flow.axes) else None for index in indices)
    return [axes for axes in given if axes is not None]


def _conv_cost(weight: int, bias: int | None) -> CostRule:
    def rule(call: Call) -> Work:
        out, kernel = math.prod(call.output()), call.input(weight)
        return Work(out * math.prod(kernel[1:]), out if bias is not None and call.has(bias) else 0)

    return rule


def _conv_transpose_cost(call: Call) -> Work:
    macs = math.prod(call.input(0)) * math.prod(call.input(1)[1:])
    return Work(macs, math.prod(call.output()) if call.has(2) else 0)


# -- matrix products ------------------------------------------------------------------------------------------


def _gemm(flow: Flow) -> Sequence[Axes | None]:
    a, b = flow.of(0), flow.of(1)
    rows, inner = reversed(a) if flow.integer("transA", 0) else a
    inner_b, columns = reversed(b) if flow.integer("transB", 0) else b
    flow.atoms.unite(inner, inner_b)
    if flow.has(2):
        unite_broadcast(flow.atoms, (rows, columns), flow.of(2))
    return [(rows, columns)]


def _gemm_cost(call: Call) -> Work:
    a, out = call.input(0), math.prod(call.output())
    return Work(out * a[0 if call.integer("transA", 0) else 1], out if call.has(2) else 0)


def _matmul(second: int) -> AxesRule:
    def rule(flow: Flow) -> Sequence[Axes | None]:
        a, b = flow.of(0), flow.of(second)
        flow.atoms.unite(a[-1], b[-2] if len(b) > 1 else b[0])
        batch = broadcast_axes(flow.atoms, [a[:-2], b[:-2]]) if len(a) > 2 or len(b) > 2 else ()
        if flow.node.op_type != "MatMul":
            _join_scales(flow, second)
        return [(*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))]

    return rule


def _join_scales(flow: Flow, second: int) -> None:
    """Scales and zero-points of an integer product: rows of the first operand, columns of the second."""
    of_a, of_b = ((1, 2), (4, 5)) if second == 3 else ((2,), (3,))
    a, b = flow.of(0), flow.of(second)
    unite_axis(flow.atoms, a[-2] if len(a) > 1 else a[0], *_given(flow, None, of_a))
    unite_axis(flow.atoms, b[-1], *_given(flow, None, of_b))


def _matmul_cost(second: int) -> CostRule:
    return lambda call: Work(math.prod(call.output()) * call.input(0)[-1])


def _einsum(flow: Flow) -> Sequence[Axes | None]:
    """Axes with one label are united; one that is summed without a partner has its sum taken, so it stays."""
    terms, result = _equation(flow)
    bound: dict[str, Axis] = {}
    seen: dict[str, int] = {}
    for index, labels in enumerate(terms):
        for label in set(labels):
            seen[label] = seen.get(label, 0) + 1
        for label, axis in zip(labels, flow.of(index), strict=True):
            if label in bound and len(axis) > 1 and len(bound[label]) > 1:
                flow.atoms.unite(bound[label], axis)
            elif label not in bound or len(bound[label]) == 1:
                bound[label] = axis
    for label in bound.keys() - set(result):
        if seen[label] == 1:
            flow.freeze(bound[label], "an axis summed alone")
    return [tuple(bound[label] for label in result)]


def _einsum_cost(call: Call) -> Work:
    terms, _ = _equation(call)
    sizes: dict[str, int] = {}
    for index, labels in enumerate(terms):
        for label, size in zip(labels, call.input(index), strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return Work(math.prod(sizes.values()) * max(1, len(terms) - 1))


def _equation(call: Call) -> tuple[list[list[str]], list[str]]:
    """Labels of each operand and of the result; the axes of an ellipsis are numbered from the end."""
    left, arrow, right = call.text("equation", "").replace(" ", "").partition("->")
    terms = [_labels(term, len(call.input(index))) for index, term in enumerate(left.split(","))]
    if not arrow:
        names = [name for term in left.split(",") for name in term if name.isalpha()]
        right = ("..." if "..." in left else "") + "".join(sorted(name for name in names if names.count(name) == 1))
    hidden = max(sum(label.isdigit() for label in term) for term in terms) if "..." in right else 0
    return terms, _labels(right, len(right.replace("...", "")) + hidden)


def _labels(term: str, rank: int) -> list[str]:
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after) if dots else 0
    return [*before, *(str(hidden - place) for place in range(hidden)), *after]
