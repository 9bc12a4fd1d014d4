"""Weight-only quantization: integers in memory, arithmetic in float.

    y = x · (s ∘ q)      q integers of four or eight bits; one s for each block of K inputs of an output

Matrix products with few rows, those of a language model that writes token by token, wait for their weights: a quarter
of the bytes is a quarter of the time, and activations need no ranges and so no data. In int4 a block of inputs
shares a scale (symmetric, least squared error); in int8 all inputs of an output do. That is what kernels read that
expand weights on the fly; other grids are expanded to float before the product, which saves no time.

Only constant matrices of MatMul and Gemm. Refuses where no block divides K at least twice, where packed rows would
end inside a byte (an odd number of outputs), and what is quantized already. Convolutions are left alone: their
kernels read float weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from graphpress.errors import UsageError
from graphpress.ir import Model, Node, Refusal, constant, is_standard, label
from graphpress.ir.encoding import (
    AffineEncoding,
    holds_scale,
    integer_bounds,
    read_encoding,
    request_compute,
)
from graphpress.manager.contract import Context, Outcome, Pass
from graphpress.ops import lookup
from graphpress.passes._kernels import choices_with_opset, lacking_opset, targets_with
from graphpress.passes.quantize._blocks import block_encoding
from graphpress.passes.quantize._encode import encode_use
from graphpress.passes.quantize._left_float import left_float
from graphpress.passes.quantize._tables import encode_tables
from graphpress.passes.quantize._weights import WeightUse, weight_use

WEIGHT = 1
"""Index of the weight of a product."""

SMALLEST_OPSET = {"int4": 21, "int8": 13}
"""From here on DequantizeLinear knows four bits and blocks, and an axis."""


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Weights of matrix products in four or eight bits; activations and arithmetic stay float.

    Args:
        dtype: type of the weights.
        block_size: for ``int4``: inputs that share a scale; smaller where that does not divide. One of those that the
            target has kernels for (128, 64 or 32).
    """

    name: ClassVar[str] = "quantize_weights"
    lossless: ClassVar[bool] = False

    dtype: Literal["int4", "int8"] = "int4"
    block_size: int = 128

    def check(self, context: Context) -> None:
        """Other blocks would be expanded to float before the product.

        Raises:
            UsageError: the target has 4-bit kernels, and none for this block size.
        """
        target = context.target
        blocks = target.quantization.weight_blocks
        if self.dtype in target.kernels and self.dtype == "int4" and self.block_size not in blocks:
            raise UsageError(
                f"no kernel of {target.name} reads weights in blocks of {self.block_size}",
                where=self.name,
                fix=f"choose one of: {', '.join(map(str, blocks))}",
            )

    def refuse(self, model: Model, context: Context) -> Refusal | None:
        """Needs kernels of the type, and an operator set that can express its blocks."""
        target, needed = context.target, SMALLEST_OPSET[self.dtype]
        if self.dtype not in target.kernels:
            return Refusal(self.name, f"this target has no {self.dtype} kernels", targets_with(self.dtype))
        if target.opset_max < needed:
            why = f"{self.dtype} weights need opset {needed}, and this target reads at most {target.opset_max}"
            return Refusal(self.name, why, choices_with_opset(target, needed, "quantize in another way"))
        return lacking_opset(self.name, model, needed) or super().refuse(model, context)

    def run(self, model: Model, context: Context) -> Outcome:
        """Encode the weight of every matrix product that has kernels for it."""
        refusals, before, after, count = [], 0, 0.0, 0
        for node in model.graph:
            encoding = self.encoding(node, context)
            if isinstance(encoding, Refusal):
                refusals.append(encoding)
            elif encoding is not None:
                use = weight_use(node, WEIGHT)
                weight = None if use is None else constant(use.constant)
                assert use is not None
                assert weight is not None
                encode_use(use.node, use.index, encoding)
                request_compute(node, "weight-only")
                count, before, after = count + 1, before + weight.nbytes, after + _bytes(weight, encoding)
        tables = self._tables(model, context, refusals)
        notes = [f"{count} weights in {self.dtype}: {before / 2**20:.2f} MiB became {after / 2**20:.2f} MiB"]
        if tables:
            notes.append(f"{tables} tables in integers, a scale a row")
        if any(is_standard(node, "Conv") for node in model.graph):
            notes.append("convolutions keep float weights: no kernel expands theirs on the fly")
        refusals += left_float(
            model, context, refusals, lambda node: f"no kernel of this target expands the weights of {node.op_type}"
        )
        return Outcome(count + tables, refusals, notes)

    def _tables(self, model: Model, context: Context, refusals: list[Refusal]) -> int:
        """Encode what is looked up, where a row is in eight bits; how many tables there were."""
        if self.dtype != "int8":
            return 0
        tables, left = encode_tables(model.graph, context.target.quantization, context)
        refusals += left
        return tables

    def encoding(self, node: Node, context: Context) -> AffineEncoding | Refusal | None:
        """The encoding of the node's weight, why it stays float, or None where it is no matrix product."""
        if not is_standard(node, "MatMul", "Gemm"):
            return None
        if refusal := _refusal(node, self.dtype, context):
            return refusal
        use = weight_use(node, WEIGHT)
        assert use is not None
        weight = constant(use.constant)
        assert weight is not None
        along = _contracted_axis(node, use)
        size, outputs = weight.shape[along], weight.shape[1 - along]
        if outputs % 2:
            return Refusal.at(
                node, f"its {outputs} outputs are odd in number: no kernel reads such rows", "leave it float"
            )
        block = self._block(size, context.target.quantization.weight_blocks)
        if block is None:
            smallest = min(context.target.quantization.weight_blocks)
            return Refusal.at(node, f"its {size} inputs make no two blocks of {smallest} or more", "leave it float")
        scales = context.target.quantization.scales
        largest = float(np.abs(weight).max())
        if not holds_scale(largest / integer_bounds(self.dtype)[1], scales):
            why = f"its largest number is {largest:.3g}, for which {scales} holds no scale"
            return Refusal.at(node, why, "scale the weight, or leave it float")
        return block_encoding(weight, along, block, self.dtype, scales)

    def _block(self, inputs: int, sizes: tuple[int, ...]) -> int | None:
        """The largest block allowed that divides the inputs at least twice, None where there is none; 0 for int8."""
        if self.dtype == "int8":
            return 0
        return next((size for size in sizes if size <= self.block_size and not inputs % size and inputs > size), None)


def _contracted_axis(node: Node, use: WeightUse) -> int:
    """The axis of a constant matrix along which the product adds up."""
    spec = lookup(node.op_type)
    assert spec is not None
    assert spec.quantization.channel_axis is not None
    return 1 - use.order[spec.quantization.channel_axis(node, 2)]


def _refusal(node: Node, dtype: str, context: Context) -> Refusal | None:
    """Why the node has no weight that could be encoded."""
    use = weight_use(node, WEIGHT)
    weight = None if use is None else constant(use.constant)
    if use is None or weight is None:
        return Refusal.at(node, "its weight is computed at run time", "leave it float")
    if exclusion := context.exclusion(node):
        return exclusion
    if use.node is not node and (dtype != "int8" or use.has_float_readers(context.target.quantization)):
        why = f"its weight is {label(use.constant)}, turned at run time: no kernel reads that in {dtype}"
        return Refusal.at(node, why, "quantize_weights{dtype=int8} takes it where the target looks rows up in integers")
    if weight.dtype != np.float32:
        return Refusal.at(node, "does not compute in float32", "run to_float32 first")
    if weight.ndim != 2 or not weight.size:
        return Refusal.at(node, "its weight is no matrix", "leave it float")
    if not np.isfinite(weight).all():
        return Refusal.at(node, "its weight has infinite or undefined numbers", "check the model")
    if use.encoding is not None or any(read_encoding(node, index) is not None for index in range(len(node.inputs))):
        return Refusal.at(node, "it is quantized already", "start from the float model to quantize it anew")
    return None


def _bytes(weight: np.ndarray, encoding: AffineEncoding) -> float:
    """Memory of the integers and of scales in half precision."""
    bits = 4 if encoding.dtype == "int4" else 8
    return weight.size * bits / 8 + 2 * encoding.scale.size
