"""A token of a Llama-shaped decoder with a cache of keys and values: the TVM backend beside ONNX Runtime.

    python benchmarks/tvm_decoder.py [--weights float32 int4 int8] [--past 512 4095] [--threads 1 2]

One token, behind so many in the cache, whose extended copy is an output. Weights as ``quantize_weights`` makes them;
both run the same annotated model, ONNX Runtime as Q/DQ nodes. Milliseconds by the clock, medians of interleaved calls,
and with ``--profile`` the kernels that take longest.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

# The folder of a script comes first in the search path, where tvm.py would hide the package of the same name.
sys.path.append(sys.path.pop(0))

import numpy as np
import onnx.numpy_helper
import onnx.parser
import onnxruntime

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.backends.tvm.artifact import write_library
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.processor import isa_of
from graphpress.ir import Model, from_proto, to_proto
from graphpress.manager.contract import Context
from graphpress.passes.quantize.quantize_weights import QuantizeWeights
from graphpress.runtime import CompiledModel
from graphpress.targets import load_target

LAYERS, WIDTH, HEADS, GROUPS, HIDDEN, VOCABULARY = 4, 1024, 16, 4, 2816, 8192
HEAD, CALLS = WIDTH // HEADS, 15
Arrays = Mapping[str, np.ndarray]

LAYER = """
    h{n} = RMSNormalization(x{n}, norm)
    q{n} = MatMul(h{n}, wq{n})
    k{n} = MatMul(h{n}, wk{n})
    v{n} = MatMul(h{n}, wv{n})
    rq{n} = RotaryEmbedding<num_heads = {heads}>(q{n}, cos, sin, position)
    rk{n} = RotaryEmbedding<num_heads = {groups}>(k{n}, cos, sin, position)
    a{n}, keys{n}, values{n} = Attention<q_num_heads = {heads}, kv_num_heads = {groups}, is_causal = 1>(
        rq{n}, rk{n}, v{n}, , past_keys{n}, past_values{n})
    o{n} = MatMul(a{n}, wo{n})
    y{n} = Add(x{n}, o{n})
    g{n} = RMSNormalization(y{n}, norm)
    gate{n} = MatMul(g{n}, wg{n})
    sigmoid{n} = Sigmoid(gate{n})
    silu{n} = Mul(gate{n}, sigmoid{n})
    up{n} = MatMul(g{n}, wu{n})
    both{n} = Mul(silu{n}, up{n})
    down{n} = MatMul(both{n}, wd{n})
    x{next} = Add(y{n}, down{n})
"""


def main() -> None:
    """Print a line for each type of weights, length of the cache and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", default=["float32", "int4", "int8"])
    parser.add_argument("--past", type=int, nargs="+", default=[512, 4095], help="tokens in the cache")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--profile", action="store_true", help="milliseconds of each kind of kernel")
    options = parser.parse_args()
    print("| weights | cache | threads | ms | ONNX Runtime | ratio |")
    print("|---|---|---|---|---|---|")
    for weights in options.weights:
        for past in options.past:
            model, delivered = decoder(past, weights)
            for threads in options.threads:
                line = _line(model, delivered, _feed(past), threads, options.profile)
                print(f"| {weights} | {past} | {threads} | {line}", flush=True)


def _line(model: Model, delivered: bytes, feed: Arrays, threads: int, profiled: bool) -> str:
    target = load_target("cpu")
    program = lower(model, isa_of(target), threads, rounds_activations=target.quantization.rounds_activations)
    with tempfile.TemporaryDirectory() as folder:
        write_library(program, isa_of(target), Path(folder))
        compiled = CompiledModel(Path(folder), threads)
    calls = [lambda: compiled.run(feed), _peer(delivered, feed, threads)]
    ours, theirs = (median(column) for column in zip(*(map(_seconds, calls) for _ in range(CALLS)), strict=True))
    line = f"{1e3 * ours:.2f} | {1e3 * theirs:.2f} | {ours / theirs:.2f} |"
    if profiled:
        kinds: Counter[str] = Counter()
        times = np.median([compiled.profile(feed) for _ in range(CALLS)], axis=0)
        for scheduled, seconds in zip(program.schedule(), times, strict=True):
            kinds[type(scheduled.steps[0].kernel).__name__] += float(seconds)
        line += " " + ", ".join(f"{name} {1e3 * seconds:.2f}" for name, seconds in kinds.most_common(6))
    return line


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def decoder(past: int, weights: str) -> tuple[Model, bytes]:
    """The annotated model, and the file that ONNX Runtime gets."""
    caches = [f"float[1,{GROUPS},{past},{HEAD}] past_{kind}{n}" for n in range(LAYERS) for kind in ("keys", "values")]
    results = [f"float[1,{GROUPS},{past + 1},{HEAD}] {kind}{n}" for n in range(LAYERS) for kind in ("keys", "values")]
    layers = "".join(LAYER.format(n=n, next=n + 1, heads=HEADS, groups=GROUPS) for n in range(LAYERS))
    text = f"""<ir_version: 10, opset_import: ["": 23]> decoder (
        int64[1,1] token, int64[1,1] position, {", ".join(caches)}) => (
        float[1,1,{VOCABULARY}] logits, {", ".join(results)}) {{
        x0 = Gather(tokens, token) {layers}
        last = RMSNormalization(x{LAYERS}, norm)
        logits = MatMul(last, wl)
    }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in _arrays(past).items())
    model, target = from_proto(proto), load_target("cpu")
    infer_shapes(model)
    if weights != "float32":
        QuantizeWeights(dtype=weights, block_size=32).run(model, Context(target=target, original=model))
    delivered = OnnxRuntimeBackend().prepare(model, target).delivered
    return model, to_proto(delivered).SerializeToString()


def _arrays(past: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    kv = GROUPS * HEAD
    sizes = {"q": (WIDTH, WIDTH), "k": (WIDTH, kv), "v": (WIDTH, kv), "o": (WIDTH, WIDTH)}
    sizes |= {"g": (WIDTH, HIDDEN), "u": (WIDTH, HIDDEN), "d": (HIDDEN, WIDTH)}
    shapes = {f"w{name}{n}": shape for n in range(LAYERS) for name, shape in sizes.items()}
    shapes |= {"wl": (WIDTH, VOCABULARY), "tokens": (VOCABULARY, WIDTH)}
    arrays = {name: (rng.standard_normal(shape) / 32).astype(np.float32) for name, shape in shapes.items()}
    angles = np.outer(np.arange(past + 1), 1e4 ** (-np.arange(HEAD // 2) / (HEAD // 2)))
    waves = {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    return arrays | waves | {"norm": np.ones(WIDTH, np.float32)}


def _feed(past: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shape = (1, GROUPS, past, HEAD)
    names = [f"past_{kind}{n}" for n in range(LAYERS) for kind in ("keys", "values")]
    feed = {name: rng.standard_normal(shape).astype(np.float32) for name in names}
    return {"token": np.array([[7]]), "position": np.array([[past]]), **feed}


def _peer(delivered: bytes, feed: Arrays, threads: int) -> Callable[[], object]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(delivered, settings)
    return lambda: session.run(None, feed)


if __name__ == "__main__":
    main()
