"""What the compiler knows about a device: plain data, never branched on by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from graphpress.targets.operators import OPERATORS
from graphpress.validation import Constraint, above, at_least, matching, not_empty, words

Operator = Annotated[str, words(*sorted(OPERATORS))]
FloatType = Annotated[str, words("float32", "float16")]
ElementType = Annotated[
    str,
    words(
        *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "int4", "int2"),
        *("uint64", "uint32", "uint16", "uint8", "uint4", "uint2"),
        *("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float4e2m1"),
    ),
]
"""By its ONNX name in lower case."""

NEWEST_OPSET = 28
"""The newest operator set that a released ONNX has."""

Opset = Annotated[
    int,
    at_least(1),
    Constraint(lambda opset: opset <= NEWEST_OPSET, f"at most {NEWEST_OPSET}", {"maximum": NEWEST_OPSET}),
]
Positive = Annotated[int, at_least(1)]
Count = Annotated[int, at_least(0)]
Pattern = Annotated[str, matching("[1-9][0-9]*:[1-9][0-9]*", "n:m, such as 2:4")]


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
        dynamic_ops: operators with integer kernels that find the range of what they read at run time.
        dynamic_recurrences: recurrent layers with such kernels.
        compute_ops: operators whose integer kernel is the reason to quantize (weights, arithmetic).
        quantizable_neighbors: operators that have an integer kernel worth using between two quantized ones.
        pass_through_ops: operators that only move or select values and read and write one shared scale.
        table_ops: operators that look rows of a constant up in integers: an embedding takes a quarter of its memory.
        body_ops: operators inside If, Loop and Scan whose integer weights are expanded on the fly.
        residual_adds: of an Add behind a convolution or matrix product, only the other operand is quantized: the
            product's accumulator flows into the addition unrounded.
        scales: float type that every scale must fit into without rounding: ``float32`` or ``float16``.
        float_results: those whose integer kernel can return float, so that a last layer keeps its resolution.
        float8_excluded: of ``pass_through_ops``, those that compute in a wider float between two 8-bit floats.
        float8_positions: positions of a convolution's kernel up to which it has float8 kernels; 0 for any number.
        weight_blocks: inputs of an output that may share a scale where kernels expand 4-bit weights on the fly, largest
            first.
        rounds_activations: products with float activations and integer weights round the activations to eight bits in
            blocks, as ONNX Runtime does by default (accuracy level 4 of its MatMulNBits), else they compute in floats.
    """

    activations: Annotated[str, words("uint8", "int8")] = "uint8"
    symmetric_activations: bool = False
    weights: Annotated[str, words("int8")] = "int8"
    per_channel: bool = True
    reduced_range: bool = False
    bias: Annotated[str, words("int32", "float32")] = "int32"
    dynamic_ops: tuple[Operator, ...] = ()
    dynamic_recurrences: tuple[Operator, ...] = ()
    compute_ops: tuple[Operator, ...] = ()
    quantizable_neighbors: tuple[Operator, ...] = ()
    pass_through_ops: tuple[Operator, ...] = ()
    table_ops: tuple[Operator, ...] = ()
    body_ops: tuple[Operator, ...] = ()
    residual_adds: bool = False
    scales: FloatType = "float32"
    float_results: tuple[Operator, ...] = ()
    float8_excluded: tuple[Operator, ...] = ()
    float8_positions: Count = 0
    weight_blocks: Annotated[tuple[Positive, ...], not_empty()] = (128, 64, 32)
    rounds_activations: bool = False


@dataclass(frozen=True)
class SparsityPolicy:
    """What zeros in weights are worth on a target.

    Args:
        patterns: n:m patterns that it has kernels for, such as ``2:4``.
        gain: what such weights gain, for the report: a sentence without its full stop.
        no_gain: why other zeros save no time, likewise.
    """

    patterns: tuple[Pattern, ...] = ()
    gain: str = ""
    no_gain: str = "nothing is known of kernels for sparse weights"


@dataclass(frozen=True)
class Processor:
    """What code is generated for on a device that is not the machine at hand.

    Args:
        architecture: as ``uname -m`` prints it; empty where nothing is known of the processor.
        model: LLVM's name of it (``mcpu``), which decides how instructions are scheduled; empty for the oldest that
            has the features.
        features: instructions that it has, as /proc/cpuinfo calls them.
    """

    architecture: Annotated[str, words("", "aarch64", "x86_64")] = ""
    model: str = ""
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A device and the runtime on it.

    Args:
        name: as on the command line.
        description: one line for ``optimize targets``.
        backend: the backend that makes the artifact.
        rivals: backends whose artifact is delivered in its place where it is faster on this machine, in order.
        this_machine: whether it is the machine at hand, so that measured figures are the target's own.
        opset_max: the newest operator set that its runtime reads.
        channel_multiple: channels come in multiples of this in its fastest kernels.
        fused_operators: operators that pay when several are fused into one.
        recipe: the built-in recipe that runs by default.
        memory_bytes: memory of the device; 0 when unknown.
        peak_gmacs: peak multiply-accumulates a second, in units of 1e9, by dtype name.
        bandwidth_gbs: memory bandwidth in GB/s; 0 when unknown.
        kernels: types that its arithmetic units compute in, by their ONNX names in lower case.
        processor: what backends that generate code need to know; that of this machine is looked up instead.
        quantization: the integer forms it runs fast.
        sparsity: which zeros it makes use of.
        settings: what only its backend reads, and validates.
        chosen: the choice of each option of the target, defaults included.
        canonical_name: how the command line names it: options that differ from their default stand in braces.
        digest: of all that its file says of the device under these choices, to tell when it has changed.
    """

    name: str
    description: str
    backend: str = "onnxruntime"
    rivals: tuple[str, ...] = ()
    this_machine: bool = False
    opset_max: Opset = 21
    channel_multiple: Positive = 1
    fused_operators: tuple[Operator, ...] = ()
    recipe: str = "int8"
    memory_bytes: Count = 0
    peak_gmacs: dict[ElementType, Annotated[float, above(0)]] = field(default_factory=dict)
    bandwidth_gbs: Annotated[float, at_least(0)] = 0.0
    kernels: Annotated[tuple[ElementType, ...], not_empty()] = ("float32", "int8")
    processor: Processor = Processor()
    quantization: QuantizationPolicy = QuantizationPolicy()
    sparsity: SparsityPolicy = SparsityPolicy()
    settings: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)
    canonical_name: str = ""
    digest: str = ""

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
