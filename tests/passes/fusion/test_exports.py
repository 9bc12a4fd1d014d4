"""What exporters write today: every attention of models from transformers and PyTorch becomes one operator.

Masks are built from inputs, lengths are open, and a sentence may be all padding: then each form of attention has its
own answer, which must stay.
"""

import warnings

import numpy as np
import pytest

import graphpress
from graphpress.ir import load
from graphpress.runtime import Session

torch = pytest.importorskip("torch", reason="exports need PyTorch: pip install 'graphpress[torch]'")
transformers = pytest.importorskip("transformers", reason="needs models to export: pip install 'graphpress[test]'")

WIDTH, HEADS, LAYERS, WORDS = 32, 4, 1, 50
IDS, MASK = "input_ids", "attention_mask"


def bert(attention):
    config = transformers.BertConfig(
        vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=64, max_position_embeddings=40, attn_implementation=attention,
    )  # fmt: skip
    return transformers.BertModel(config), (IDS, MASK)


def gpt2(attention):
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=40, use_cache=False,
        attn_implementation=attention,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config), (IDS,)


def llama(attention):
    """With two heads of keys for four of queries."""
    config = transformers.LlamaConfig(
        vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2, intermediate_size=64, max_position_embeddings=40, use_cache=False,
        attn_implementation=attention,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config), (IDS, MASK)


def encoder(attention):
    layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 64, batch_first=True)
    return torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False), ("x",)


class Named(torch.nn.Module):
    """The first result of a model that takes its inputs by name, or of one that takes a single input."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs):
        if len(self.names) == 1 and self.names[0] == "x":
            return self.model(*inputs)
        return self.model(**dict(zip(self.names, inputs, strict=True)))[0]


def feed_of(names, batch, length, seed=0):
    random = np.random.default_rng(seed)
    mask = np.ones((batch, length), np.int64)
    mask[0, length // 2 :] = 0
    mask[-1] = 0  # nothing but padding
    arrays = {
        IDS: random.integers(0, WORDS, (batch, length)),
        MASK: mask,
        "x": random.normal(size=(batch, length, WIDTH)).astype(np.float32),
    }
    return {name: arrays[name] for name in names}


def export(make, attention, exporter, path):
    torch.manual_seed(0)
    model, names = make(attention)
    wrapped, feed = Named(model, names).eval(), feed_of(names, 2, 10)
    inputs = tuple(torch.from_numpy(array) for array in feed.values())
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # an operator of its own, which no exporter knows
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if exporter == "torchscript":
                axes = {name: {0: "batch", 1: "length"} for name in (*names, "out")}
                torch.onnx.export(
                    wrapped, inputs, path, dynamo=False, input_names=list(names), output_names=["out"],
                    dynamic_axes=axes, opset_version=17,
                )  # fmt: skip
            else:
                pytest.importorskip("onnxscript", reason="this exporter needs it: pip install 'graphpress[test]'")
                batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=2, max=40)
                shapes = (tuple({0: batch, 1: length} for _ in names),)
                torch.onnx.export(
                    wrapped, inputs, path, dynamo=True, input_names=list(names), output_names=["out"],
                    dynamic_shapes=shapes, external_data=False, opset_version=18, verbose=False,
                )  # fmt: skip
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return names


@pytest.mark.parametrize(
    ("make", "attention", "exporter"),
    [
        (bert, "sdpa", "dynamo"),
        (bert, "eager", "torchscript"),
        (gpt2, "sdpa", "dynamo"),
        (llama, "sdpa", "dynamo"),
        (llama, "eager", "torchscript"),
        (encoder, "", "dynamo"),
    ],
)
def test_every_attention_is_one_operator(tmp_path, make, attention, exporter):
    file = tmp_path / "model.onnx"
    names = export(make, attention, exporter, file)
    graphpress.optimize(file, passes="cleanup,fuse", output=tmp_path / "out", allow_worse=True)
    delivered = load(tmp_path / "out" / "model.onnx")
    ops = [node.op_type for node in delivered.graph]
    assert (ops.count("Attention"), ops.count("Softmax")) == (LAYERS, 0)
    before, after = Session(file, optimization="none"), Session(tmp_path / "out" / "model.onnx")
    for batch, length in ((1, 5), (3, 17)):
        feed = feed_of(names, batch, length, seed=length)
        for name, expected in before.run(feed).items():
            np.testing.assert_allclose(after.run(feed)[name], expected, rtol=1e-4, atol=1e-5)
