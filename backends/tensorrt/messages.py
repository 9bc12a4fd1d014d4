"""TensorRT's messages when it refuses a model, as refusals that name the node, the reason and the remedy.

A message is matched against a table of patterns. One that no pattern knows is passed on as it is: nothing that
TensorRT said is lost. Left out is what only repeats another message, writes out the node that it is about, or says
that there is no GPU here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from graphpress.backends.tensorrt.build import Message
from graphpress.backends.tensorrt.quantization_roles import nodes_by_name
from graphpress.errors import UsageError, listed
from graphpress.ir import Model, Node, Refusal, Value, graphs, is_standard, label, readers
from graphpress.ir.values import holds_graphs

NOWHERE: Final = "TensorRT"
GENERIC_FIX: Final = "exclude the node (--exclude), or look up in NVIDIA's documentation what the operator takes"
BRANCHES_FIX: Final = (
    "export each branch as a model of its own, or make the condition constant, so that clean-up takes the branch that "
    "stays; --exclude changes nothing here"
)
SHAPES_FIX: Final = "say which shapes the input takes: --input-range NAME=MIN:OPT:MAX"


@dataclass(frozen=True)
class Explanation:
    """What a message means.

    Args:
        pattern: found in the message. Its groups ``node`` and ``value`` name what it is about.
        why: the reason; groups of the pattern, ``{operator}`` and ``{dtype}`` (of the value) stand in braces.
        fix: the remedy.
    """

    pattern: re.Pattern[str]
    why: str
    fix: str


def _means(pattern: str, why: str, fix: str) -> Explanation:
    return Explanation(re.compile(pattern, re.DOTALL), why, fix)


ERRORS: Final = (
    _means(
        r"shiftIsAllZeros|Non-zero zero point",
        "its zero-point is not 0, and TensorRT quantizes symmetrically",
        "quantize the float original for this target; the Q/DQ nodes of another runtime are not taken",
    ),
    _means(
        r"(?P<node>[^\s(]+): input has type (?P<found>\w+) but must have type (?P<wanted>[^.]+?)\.",
        "it reads {found}, and {operator} takes {wanted}",
        "keep the value float (a bias must be), or quantize it to a type that is taken",
    ),
    _means(
        r"Cannot compile for target\(s\) (?P<target>\w+), because the model contains HW-specific datatypes: "
        r"(?P<types>[\w, ]+?)\.",
        "the GPU ({target}) has no arithmetic in {types}",
        "choose a recipe in types that this GPU has, such as int8-float16",
    ),
    _means(
        r"no optimization profile has been defined",
        "inputs have open dimensions, or values that are sizes of what is computed, and no range is given for them",
        f"{SHAPES_FIX}; make sizes that are read from an input constants",
    ),
    _means(
        r"Invalid optimization profiles for input tensors (?P<value>[^,]+),",
        "min ≤ opt ≤ max does not hold for its shapes",
        SHAPES_FIX,
    ),
    _means(
        r"Parameter check failed, condition: profile->isValid\(\)",
        "a range of shapes is not in order",
        SHAPES_FIX,
    ),
    _means(
        r"Dimension mismatch for tensor (?P<value>\S+) and profile \d+\. At dimension axis (?P<axis>\d+), "
        r"profile has min=(?P<min>\d+), opt=\d+, max=(?P<max>\d+) but tensor has (?P<size>\d+)",
        "axis {axis} is {size}, and the shapes given for it go from {min} to {max}",
        SHAPES_FIX,
    ),
    _means(
        r"Dynamic input tensor (?P<value>\S+) is missing dimensions in profile",
        "it has open dimensions, and no shapes are given for it",
        SHAPES_FIX,
    ),
    _means(
        r"Dynamic-shaped input tensor (?P<value>\S+) has (?P<rank>\d+) dimensions but profile \d+ has (?P<given>\d+)",
        "it has {rank} dimensions, and the shapes given for it have {given}",
        SHAPES_FIX,
    ),
    _means(
        r"(?P<node>[^\s(]+): I?\w+(?: \w+)? (?:`input` and `kernel` )?must (?:have same input types|be of same type)\."
        r".*?\b(?P<one>Half|BFloat16|Float|FP8|Int\d+|UInt8|Bool)\b.*?"
        r"\b(?P<other>Half|BFloat16|Float|FP8|Int\d+|UInt8|Bool)\b",
        "it combines {one} with {other}: operands of a strongly typed network are of one type",
        "make the operands one type: a Cast, or constants in the type of the other operand",
    ),
    _means(
        r"\A(?:.*In function check\w+:\n\[\d+\] )?false\Z",
        "TensorRT's parser has no {operator}",
        "leave it out of the model (surgery), or replace it with operators that TensorRT reads",
    ),
    _means(
        r"Plugin not found",
        "{operator} is no operator that TensorRT knows, and no plugin of that name is registered",
        "register the plugin where the engine is built, or replace the node (surgery)",
    ),
    _means(
        r"(?:when importing initializer: |Failed to import initializer: |ONNX initializer )(?!In node)"
        r"(?P<value>\S+?)(?: cannot be imported into TensorRT!)?\Z",
        "it is {dtype}, which TensorRT does not read",
        "quantize to int8, or weights alone to int4",
    ),
    _means(
        r"Found unsupported input type of (?P<found>\w+)",
        "it reads {found}, which TensorRT's {operator} does not take",
        "cast the operand, or quantize to int8",
    ),
    _means(
        r"Scale coefficients must all be positive",
        "a scale of it is zero or negative",
        "quantize the float original anew; a channel that is always zero takes any positive scale",
    ),
    _means(
        r"blocking dimension must be the last or second to last",
        "its scales go by blocks along an axis that is neither the last nor the last but one",
        "only weights of MatMul and Gemm may be quantized in blocks",
    ),
    _means(
        r"ITopKLayer (?P<node>[^:]+): .*K exceeds the maximum value allowed \((?P<most>\d+)\)",
        "it selects more than {most} values",
        "select at most {most}: fewer candidates before the selection, say",
    ),
    _means(
        r"Failed to parse the ONNX model|read no output",
        "the file is no ONNX model",
        "export it again, and check it with onnx.checker",
    ),
    _means(
        r"Input file cannot be found.*?: (?P<value>.+)\Z",
        "there is no such file",
        "check the path",
    ),
    _means(
        r"Node input was not registered",
        "it reads a value that nothing before it computes",
        "the model is malformed: export it again, and check it with onnx.checker",
    ),
    _means(
        r"Failed to convert ONNX da\w+ type",
        "an input has a type that TensorRT has no tensors of",
        "feed numbers: strings must be looked up before the model",
    ),
    _means(
        r"Assertion !layerImpls\.empty\(\) failed\. (?P<node>.+?)(?:_\d+)? has no runners that implement it",
        "this TensorRT has no kernel for {operator}",
        "run it outside the model",
    ),
    _means(
        r"CUDA driver version is insufficient|no CUDA-capable device|Unable to determine GPU memory|cudaError",
        "there is no usable GPU here",
        "build on the device, or ahead of time for a given compute capability",
    ),
    _means(
        r'&& "(?P<detail>TensorRT only supports .+)"',
        "{detail}",
        "choose one that is supported where the model is exported",
    ),
)
"""What errors mean; the first that matches holds."""

WITHOUT_GPU: Final = re.compile(r"catchCudaError|cudaResources")
"""What every error on a machine without a GPU is followed by."""

FRAME: Final = re.compile(r"While parsing node number|--- (?:Begin|End) node ---|\A(?:\S+: )?Node name:")
"""Where in the parser an error arose, and the node written out."""

UINT8: Final = re.compile(r"with UINT8 zero_point only on DLA")

CONTRADICTION: Final = re.compile(
    r"Profile k(MIN|OPT|MAX) values are not self-consistent\. (.*?)(?:\. In operator|$)", re.DOTALL
)
ENDS: Final = {"MIN": "min", "OPT": "opt", "MAX": "max"}

HARMLESS: Final = re.compile(
    r"Converting conv (?:activation|weight) scales to fp32|Make sure (?:input|output) .+ has Int64 binding"
    r"|first input has type \w+ but second input has type"
    r"|Empty initializer .* was provided with non-empty data"
)
"""Changes of form that change no result. A constant of no elements (regions of Resize, say) has no data to lose."""


def explain(messages: Sequence[Message], model: Model | None = None) -> list[Refusal]:
    """What the errors among the messages mean, in order, each once; never empty.

    Args:
        messages: of a build that failed.
        model: what was built, to look up operators and types; None where it cannot be read.
    """
    errors = [message for message in messages if "error" in message.severity]
    informative = [message for message in errors if not _repeats(message, errors) and not FRAME.search(message.text)]
    relevant = [
        replace(message, text=text) for message in informative if (text := _without_gpu(message.text))
    ] or informative
    names = {} if model is None else nodes_by_name(model)
    refusals = list(dict.fromkeys(_explain(message, model, names) for message in relevant))
    refusals = refusals or [Refusal(NOWHERE, "it builds no engine and does not say why", GENERIC_FIX)]
    return [_suspected(refusal, model) for refusal in refusals]


def _suspected(refusal: Refusal, model: Model | None) -> Refusal:
    """A refusal that names no node and that nothing explains, with the nodes that hold graphs of their own, if any.

    They are what the compiler itself, rather than the parser, stumbles over, with messages about its own innards.
    """
    if model is None or (refusal.where, refusal.fix) != (NOWHERE, GENERIC_FIX):
        return refusal
    holders = [label(node) for graph in graphs(model) for node in graph if holds_graphs(node)]
    if not holders:
        return refusal
    why = f"its compiler fails without naming a node, and these hold graphs of their own. {refusal.why}"
    return Refusal(listed(holders), why, BRANCHES_FIX)


def warnings_of(messages: Sequence[Message], model: Model) -> list[Refusal]:
    """Warnings that mean that the engine computes something else than the model defines."""
    if not any(UINT8.search(message.text) for message in messages):
        return []
    return [
        Refusal.at(
            node,
            "its integers are uint8, which TensorRT takes for int8: what is above 127 saturates",
            "quantize to int8",
        )
        for graph in graphs(model)
        for node in graph
        if is_standard(node, "QuantizeLinear", "DequantizeLinear") and _is_uint8(node)
    ]


def contradiction(messages: Sequence[Message]) -> UsageError | None:
    """The error of a range of shapes in which the model does not hold: TensorRT builds an engine and only warns."""
    violation = next((match for message in messages if (match := CONTRADICTION.search(message.text))), None)
    if violation is None:
        return None
    return UsageError(
        f"the model does not hold at the {ENDS[violation[1]]} shapes: {violation[2].strip()}",
        where="--input-range",
        fix="give sizes that the model takes (a table of positions ends somewhere, say)",
    )


def remarks(messages: Sequence[Message]) -> list[str]:
    """Other warnings, as TensorRT's text, each once; those that mean nothing are left out."""
    texts = (message.text.strip() for message in messages if message.severity == "warning")
    return list(dict.fromkeys(text for text in texts if not HARMLESS.search(text) and not UINT8.search(text)))


def _without_gpu(text: str) -> str:
    """A message without its lines that only report that there is no GPU."""
    return "\n".join(line for line in text.strip().splitlines() if not WITHOUT_GPU.search(line))


def _repeats(message: Message, errors: Sequence[Message]) -> bool:
    """Whether an error of the parser, which names the node, repeats it."""
    text = message.text.strip()
    return not message.node and any(
        other.node and (text in other.text or text.endswith(other.text.strip()))
        for other in errors
        if other is not message
    )


def _explain(message: Message, model: Model | None, names: Mapping[str, Node]) -> Refusal:
    for meaning in ERRORS:
        if match := meaning.pattern.search(message.text):
            return _filled(meaning, match.groupdict(), message, model, names)
    return Refusal(
        message.node or _mentioned(message.text, names), f"TensorRT says: {message.text.strip()}", GENERIC_FIX
    )


def _filled(
    meaning: Explanation, groups: dict[str, str], message: Message, model: Model | None, names: Mapping[str, Node]
) -> Refusal:
    node = message.node or groups.get("node") or ""
    operator = message.operator or (names[node].op_type if node in names else "")
    value = None if model is None else _value(model, groups.get("value", ""))
    fields = {
        **groups,
        "operator": operator or "this operator",
        "dtype": "of a type" if value is None or value.dtype is None else value.dtype.name.lower(),
    }
    why = meaning.why.format(**{key: text for key, text in fields.items() if text})
    where = node or groups.get("value") or NOWHERE
    if value is not None and not value.is_graph_input() and readers(value):
        where = f"{label(readers(value)[0])} ({where})"
    return Refusal(where, _joined(why), meaning.fix.format(**groups))


def _joined(text: str) -> str:
    """Adjacent string literals of C++ as the one string that they are."""
    return re.sub(r'"\s*"', "", text)


def _mentioned(text: str, names: Mapping[str, Node]) -> str:
    """The node that an error of the network's API begins with, or that the parser counts, if the model has it."""
    if (named := re.search(r"Error \((?P<node>[^\s(]+): ", text)) and named["node"] in names:
        return named["node"]
    counted = re.search(r"In node (?P<index>\d+)\b", text)
    return next(itertools.islice(names, int(counted["index"]), None), NOWHERE) if counted else NOWHERE


def _value(model: Model, name: str) -> Value | None:
    candidates: Iterator[Value] = (
        value for graph in graphs(model) for value in (*graph.inputs, *getattr(graph, "initializers", {}).values())
    )
    return next((value for value in candidates if name and value.name == name), None)


def _is_uint8(node: Node) -> bool:
    values = (*node.inputs[:1], *node.inputs[2:], *node.outputs)
    return any(value is not None and value.dtype is not None and value.dtype.name == "UINT8" for value in values)
