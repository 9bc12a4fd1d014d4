"""Which fused operators pay in ONNX Runtime on this machine: each expression written out against its operator.

    python benchmarks/fusion.py [--threads 2] [--seconds 3]

Both models run interleaved in one process with all of ONNX Runtime's own optimizations; a ratio below 1 means that the
fused operator is faster. The result is what ``fused_operators`` of a target holds.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from graphpress.ir import Model, clone, from_proto
from graphpress.manager.contract import Context
from graphpress.passes.fusion._operator import OperatorFusion
from graphpress.passes.fusion.fuse_attention import FuseAttention
from graphpress.passes.fusion.fuse_gelu import FuseGelu
from graphpress.passes.fusion.fuse_group_norm import FuseGroupNorm
from graphpress.passes.fusion.fuse_hard_sigmoid import FuseHardSigmoid
from graphpress.passes.fusion.fuse_hard_swish import FuseHardSwish
from graphpress.passes.fusion.fuse_layer_norm import FuseLayerNorm
from graphpress.passes.fusion.fuse_leaky_relu import FuseLeakyRelu
from graphpress.passes.fusion.fuse_matmul_add import FuseMatmulAdd
from graphpress.passes.fusion.fuse_mish import FuseMish
from graphpress.passes.fusion.fuse_rms_norm import FuseRmsNorm
from graphpress.passes.fusion.fuse_softmax import FuseSoftmax
from graphpress.passes.fusion.fuse_softplus import FuseSoftplus
from graphpress.passes.fusion.fuse_swish import FuseSwish
from graphpress.runtime import Session, compare_latency
from graphpress.targets import load_target

IMAGE, TOKENS = "float[1,64,56,56] x", "float[1,128,768] x"
CONV = "h = Conv<pads=[1,1,1,1]>(x, kernel) "
DENSE = "h = MatMul(x, wide) "
GELU = "d = Div(h, root2) e = Erf(d) a = Add(e, one) m = Mul(h, a) y = Mul(m, half)"
TANH = (
    "c = Pow(h, three) k = Mul(c, cubic) i = Add(h, k) j = Mul(i, root2pi) t = Tanh(j) a = Add(t, one)"
    " b = Mul(h, half) y = Mul(b, a)"
)
SWISH = "s = Sigmoid(h) y = Mul(h, s)"
MISH = "p = Softplus(h) t = Tanh(p) y = Mul(h, t)"
HARD_SWISH = "a = Add(h, three) c = Clip(a, zero, six) m = Mul(h, c) y = Div(m, six)"
HARD_SIGMOID = "a = Add(h, three) c = Clip(a, zero, six) y = Div(c, six)"
LEAKY = "g = Greater(h, zero) m = Mul(h, tenth) y = Where(g, h, m)"
SOFTPLUS = "e = Exp(h) a = Add(e, one) y = Log(a)"
RMS = "p = Pow(x, two) v = ReduceMean(p, last) e = Add(v, eps) s = Sqrt(e) n = Div(x, s) h = Mul(n, gamma) "
BY_RECIPROCAL = RMS.replace("n = Div(x, s)", "r = Reciprocal(s) n = Mul(x, r)")
LAYER = (
    "u = ReduceMean(x, last) d = Sub(x, u) p = Pow(d, two) v = ReduceMean(p, last) e = Add(v, eps) s = Sqrt(e)"
    " n = Div(d, s) g = Mul(n, gamma) h = Add(g, beta) "
)
GROUP = (
    "r = Reshape(x, groups) i = InstanceNormalization(r, ones, zeros) b = Reshape(i, image) m = Mul(b, scale)"
    " y = Add(m, shift)"
)
HEADS = ", ".join(f"float[1,12,128,64] {name}" for name in "xkv")
ATTENTION = "t = Transpose<perm=[0,1,3,2]>(k) s = MatMul(x, t) a = Mul(s, eighth) {0} y = MatMul(p, v)"
TORCH_ATTENTION = (
    "f = Reshape(k, merged) g = Transpose<perm=[0,2,1]>(f) t = Reshape(g, split) q = Mul(x, root8) u = Mul(t, root8)"
    " s = MatMul(q, u) m = Add(s, mask) p = Softmax(m) y = MatMul(p, v)"
)


@dataclass(frozen=True)
class Case:
    """An expression in its usual surroundings."""

    title: str
    rule: OperatorFusion | FuseMatmulAdd
    inputs: str
    nodes: str


CASES = (
    Case("after MatMul", FuseGelu(), TOKENS, DENSE + GELU),
    Case("tanh form, after MatMul", FuseGelu(), TOKENS, DENSE + TANH),
    Case("after Conv", FuseHardSwish(), IMAGE, CONV + HARD_SWISH),
    Case("after Conv", FuseHardSigmoid(), IMAGE, CONV + HARD_SIGMOID),
    Case("after Conv", FuseSwish(), IMAGE, CONV + SWISH),
    Case("after MatMul", FuseSwish(), TOKENS, DENSE + SWISH),
    Case("after Conv", FuseMish(), IMAGE, CONV + MISH),
    Case("after Conv", FuseLeakyRelu(), IMAGE, CONV + LEAKY),
    Case("after Conv", FuseSoftplus(), IMAGE, CONV + SOFTPLUS),
    Case("alone", FuseLayerNorm(), TOKENS, LAYER + "y = Neg(h)"),
    Case("before MatMul", FuseLayerNorm(), TOKENS, LAYER + "y = MatMul(h, wide)"),
    Case("alone", FuseRmsNorm(), TOKENS, RMS + "y = Neg(h)"),
    Case("before MatMul", FuseRmsNorm(), TOKENS, RMS + "y = MatMul(h, wide)"),
    Case(
        "by reciprocal",
        FuseRmsNorm(),
        TOKENS,
        RMS.replace("n = Div(x, s)", "r = Reciprocal(s) n = Mul(x, r)") + "y = Neg(h)",
    ),
    Case("8 groups", FuseGroupNorm(), IMAGE, GROUP),
    Case(
        "128×128 of 12 heads", FuseSoftmax(), "float[1,12,128,128] x", "e = Exp(x) t = ReduceSum(e, last) y = Div(e, t)"
    ),
    Case("12 heads, 128×64", FuseAttention(), HEADS, ATTENTION.format("p = Softmax(a)")),
    Case("as torch writes it", FuseAttention(), HEADS, TORCH_ATTENTION),
    Case("with a mask", FuseAttention(), HEADS, ATTENTION.format("b = Add(a, mask) p = Softmax(b)")),
    Case("128×768 by 768×3072", FuseMatmulAdd(), "float[128,768] x", "h = MatMul(x, wide) y = Add(h, bias)"),
)


def constants() -> dict[str, np.ndarray]:
    """Numbers and weights by the name that the expressions use."""
    random = np.random.default_rng(0)
    numbers = {
        "zero": 0.0, "one": 1.0, "half": 0.5, "two": 2.0, "three": 3.0, "six": 6.0, "tenth": 0.1, "eighth": 0.125,
        "root2": 2**0.5, "root8": 0.125**0.5, "root2pi": (2 / np.pi) ** 0.5, "cubic": 0.044715, "eps": 1e-5,
    }  # fmt: skip
    sizes = {
        "kernel": (64, 64, 3, 3), "wide": (768, 3072), "bias": (3072,), "gamma": (768,), "beta": (768,),
        "scale": (64, 1, 1), "shift": (64, 1, 1), "mask": (1, 1, 128, 128),
    }  # fmt: skip
    arrays = {name: np.float32(value) for name, value in numbers.items()}
    arrays |= {name: (random.normal(size=shape) * 0.05).astype(np.float32) for name, shape in sizes.items()}
    arrays |= {"ones": np.ones(8, np.float32), "zeros": np.zeros(8, np.float32), "last": np.array([-1])}
    shapes = {"groups": [0, 8, -1], "image": [1, 64, 56, 56], "merged": [-1, 128, 64], "split": [1, 12, 64, 128]}
    return arrays | {name: np.array(shape) for name, shape in shapes.items()}


def decomposed(case: Case) -> Model:
    """The model of a case as an exporter would write it, in a new operator set."""
    text = f'<ir_version: 11, opset_import: ["": 24]> g ({case.inputs}) => (float[] y) {{ {case.nodes} }}'
    proto = onnx.parser.parse_model(text)
    read = {name for node in proto.graph.node for name in node.input}
    arrays = {name: array for name, array in constants().items() if name in read}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return from_proto(onnx.shape_inference.infer_shapes(proto))


def main() -> None:
    """Measure every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print(f"{'operator':20} {'':24} {'written out':>10} {'fused':>10}   ratio (95 %)        nodes")
    for case in CASES:
        before = decomposed(case)
        after = clone(before)
        changes = case.rule.run(after, Context(load_target("cpu"), before)).changes
        assert changes, f"{case.rule.name} does not fire"
        sessions = [Session(model, threads=options.threads) for model in (before, after)]
        random = np.random.default_rng(0)
        feed = {spec.name: random.normal(size=spec.dims).astype(np.float32) for spec in sessions[0].inputs}
        calls = [lambda session=session, feed=feed: session.run(feed) for session in sessions]
        timing = compare_latency(*calls, seconds=options.seconds)
        sizes = " → ".join(str(len(list(model.graph))) for model in (before, after))
        print(
            f"{case.rule.emits or '':20} {case.title:24} {timing.a_ms:7.3f} ms {timing.b_ms:7.3f} ms"
            f"   {timing.ratio:.3f} ({timing.low:.3f}–{timing.high:.3f})  {sizes}",
            flush=True,
        )


if __name__ == "__main__":
    main()
