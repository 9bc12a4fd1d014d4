"""What the compiler knows about a device: plain data, never branched on by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class QuantizationPolicy:
    """Which integer form is fast on a target, and where.

    Args:
        activations: dtype of quantized activations, ``uint8`` or ``int8``.
        symmetric_activations: zero-point fixed at the middle of the range.
        weights: dtype of quantized weights.
        per_channel: one scale per output channel of a weight, else one a tensor.
        reduced_range: weights use 7 bits, for processors whose u8×s8 kernels saturate in 16 bits.
        bias: dtype of the bias of an integer convolution: ``int32``, or ``float32`` where the compiler wants it so.
        compute_ops: operators whose integer kernel is the reason to quantize (weights, arithmetic).
        quantizable_neighbors: operators that have an integer kernel worth using between two quantized ones.
        pass_through_ops: operators that only move or select values and read and write one shared scale.
        residual_adds: of an Add behind a convolution or matrix product, only the other operand is quantized: the
            product's accumulator flows into the addition unrounded.
        scales: float type that every scale must fit into without rounding: ``float32`` or ``float16``.
        float_results: those whose integer kernel can return float, so that a last layer keeps its resolution.
        float8_excluded: of ``pass_through_ops``, those that compute in a wider float between two 8-bit floats.
        float8_positions: positions of a convolution's kernel up to which it has float8 kernels; 0 for any number.
        weight_blocks: inputs of an output that may share a scale where kernels expand 4-bit weights on the fly, largest
            first.
    """

    activations: str = "uint8"
    symmetric_activations: bool = False
    weights: str = "int8"
    per_channel: bool = True
    reduced_range: bool = False
    bias: str = "int32"
    compute_ops: tuple[str, ...] = ()
    quantizable_neighbors: tuple[str, ...] = ()
    pass_through_ops: tuple[str, ...] = ()
    residual_adds: bool = False
    scales: str = "float32"
    float_results: tuple[str, ...] = ()
    float8_excluded: tuple[str, ...] = ()
    float8_positions: int = 0
    weight_blocks: tuple[int, ...] = (128, 64, 32)


@dataclass(frozen=True)
class SparsityPolicy:
    """What zeros in weights are worth on a target.

    Args:
        patterns: n:m patterns that it has kernels for, such as ``2:4``.
        gain: what such weights gain, for the report: a sentence without its full stop.
        no_gain: why other zeros save no time, likewise.
    """

    patterns: tuple[str, ...] = ()
    gain: str = ""
    no_gain: str = "nothing is known of kernels for sparse weights"


@dataclass(frozen=True)
class Target:
    """A device and the runtime on it.

    Args:
        name: as on the command line.
        description: one line for ``optimize targets``.
        backend: the backend that makes the artifact.
        this_machine: whether it is the machine at hand, so that measured figures are the target's own.
        opset_max: the newest operator set that its runtime reads.
        channel_multiple: channels come in multiples of this in its fastest kernels.
        fused_operators: operators that pay when several are fused into one.
        recipe: the built-in recipe that runs by default.
        memory_bytes: memory of the device; 0 when unknown.
        peak_gmacs: peak multiply-accumulates a second, in units of 1e9, by dtype name.
        bandwidth_gbs: memory bandwidth in GB/s; 0 when unknown.
        kernels: types that its arithmetic units compute in, by their ONNX names in lower case.
        quantization: the integer forms it runs fast.
        sparsity: which zeros it makes use of.
        settings: what only its backend reads, and validates.
        chosen: the choice of each option of the target, defaults included.
        canonical_name: how the command line names it: options that differ from their default stand in braces.
    """

    name: str
    description: str
    backend: str = "onnxruntime"
    this_machine: bool = False
    opset_max: int = 21
    channel_multiple: int = 1
    fused_operators: tuple[str, ...] = ()
    recipe: str = "int8"
    memory_bytes: int = 0
    peak_gmacs: dict[str, float] = field(default_factory=dict)
    bandwidth_gbs: float = 0.0
    kernels: tuple[str, ...] = ("float32", "int8")
    quantization: QuantizationPolicy = QuantizationPolicy()
    sparsity: SparsityPolicy = SparsityPolicy()
    settings: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)
    canonical_name: str = ""

    @property
    def called(self) -> str:
        """Its name without options, or the path of its file: what a choice in braces is written behind."""
        return self.canonical_name.partition("{")[0] or self.name


@dataclass(frozen=True)
class Option:
    """Something about a target that is for the user to choose.

    Args:
        default: the choice that holds when none is given.
        choices: every choice, in the order of the file.
    """

    default: str
    choices: tuple[str, ...]
