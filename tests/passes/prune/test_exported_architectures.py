"""Exports that nobody here wrote: model classes of transformers, built from a configuration, as torch.onnx writes them.

The graphs are taken as they come: many small nodes, shapes computed at run time, no clean-up.
"""

import io
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from graphpress.ir import load
from graphpress.manager.prepare import prepare
from graphpress.runtime import Session

TOLERANCE = 1e-4
BLOCK = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
STAGES = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
SPEECH = {"conv_dim": [16] * 3, "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 3], "num_feat_extract_layers": 3}
WINDOWS = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
TEXT = {"vocab_size": 50, "max_position_embeddings": 16, **BLOCK}
DECODER = {**TEXT, "use_cache": False}
PATCHES = {"image_size": 32, "patch_size": 8, **BLOCK}

IMAGE, PIXELS, WAVE, TOKENS = (1, 3, 64, 64), (1, 3, 32, 32), (1, 800), (1, 8)


@dataclass(frozen=True)
class Case:
    """A model class, its configuration, and what it reads.

    Args:
        model: name of the class; that of its configuration goes with it.
        config: fields of the configuration.
        shape: of its input; integers from 0 to 39 where it has two axes and the model has a vocabulary.
        most: part of the parameters that may be left.
        masked: it is given an attention mask too.
    """

    model: str
    config: dict[str, Any]
    shape: tuple[int, ...]
    most: float
    masked: bool = False

    @property
    def family(self) -> str:
        """What precedes Model, For... in the name of the class."""
        return self.model.partition("For")[0].removesuffix("LMHeadModel").removesuffix("Model")


CASES = [
    Case("BertModel", TEXT, TOKENS, 0.6),
    Case("DebertaV2Model", {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, TOKENS, 0.6),
    Case("GPT2LMHeadModel", {"vocab_size": 50, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 16,
                             "use_cache": False}, TOKENS, 0.6, masked=True),
    Case("LlamaForCausalLM", {**DECODER, "num_key_value_heads": 2}, TOKENS, 0.6, masked=True),
    Case("Qwen2ForCausalLM", {**DECODER, "num_key_value_heads": 2}, TOKENS, 0.6, masked=True),
    Case("ViTForImageClassification", PATCHES, PIXELS, 0.62),
    Case("SwinForImageClassification", WINDOWS, PIXELS, 0.6),
    Case("Swinv2ForImageClassification", WINDOWS, PIXELS, 0.6),
    Case("ConvNextForImageClassification", STAGES, IMAGE, 0.66),
    Case("RegNetForImageClassification", {**STAGES, "embedding_size": 16, "groups_width": 8}, IMAGE, 0.35),
    Case("ResNetForImageClassification", {**STAGES, "embedding_size": 16}, IMAGE, 0.35),
    Case("MobileNetV2ForImageClassification", {"image_size": 64, "depth_multiplier": 0.25}, IMAGE, 0.35),
    Case("LevitForImageClassification", {"image_size": 64, "hidden_sizes": [32, 48, 64], "depths": [1, 1, 1],
                                         "num_attention_heads": [2, 3, 4], "key_dim": [8, 8, 8]}, IMAGE, 0.35),
    Case("MobileViTForImageClassification", {"image_size": 64, "hidden_sizes": [32, 40, 48], "num_attention_heads": 4,
                                             "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64]}, IMAGE, 0.4),
    Case("YolosForObjectDetection", {**PATCHES, "image_size": [32, 32], "num_detection_tokens": 5}, PIXELS, 0.62),
    Case("Wav2Vec2ConformerModel", {**BLOCK, **SPEECH, "conv_depthwise_kernel_size": 7}, WAVE, 0.6),
]  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.model)
def exported(request, tmp_path_factory):
    pytest.importorskip("torch", reason="needs torch: pip install 'graphpress[torch]'")
    pytest.importorskip("transformers", reason="needs transformers: pip install transformers")
    file = tmp_path_factory.mktemp("exports") / f"{request.param.model}.onnx"
    export(request.param, file)
    model = load(file)
    prepare(model, {})
    return request.param, model


@pytest.mark.slow
def test_half_of_every_group(exported, pruning):
    case, model = exported
    pruned = pruning.by(model, pruning.half)
    pruning.check(pruned)
    assert pruned.coupling.channels.notes == []
    assert pruned.parameters_kept() <= case.most
    for batch in (1, 3):
        feed = feed_of(case, model, batch, pruning)
        before, after = Session(model).run(feed), Session(pruned.model).run(feed)
        assert {name: array.shape for name, array in after.items()} == {
            name: array.shape for name, array in before.items()
        }
    assert_sound(pruned, feed)


@pytest.mark.slow
def test_anything_at_random(exported, pruning):
    case, model = exported
    pruned = pruning.by(model, pruning.at_random(seed=len(case.model)))
    assert_sound(pruned, feed_of(case, model, 2, pruning))


def feed_of(case, model, batch, pruning):
    feed = pruning.feed(model, batch, seed=batch)
    for name, array in feed.items():
        if array.dtype == np.int64:
            tokens = np.random.default_rng(batch).integers(0, 40, array.shape)
            feed[name] = np.ones_like(array) if "mask" in name else tokens
    return feed


def assert_sound(pruned, feed):
    differences = pruned.worst(feed)
    assert {name: difference for name, difference in differences.items() if not difference <= TOLERANCE} == {}


def export(case, file):
    """Random weights of a scale at which every output reacts; the batch is dynamic."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{case.family}Config")(**case.config)
    config._attn_implementation = "eager"
    model = getattr(transformers, case.model)(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, 1 if "embed" in name else weight[0].numel() ** -0.5)

    class Outputs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, data, mask=None):
            results = self.model(data, **({} if mask is None else {"attention_mask": mask}))
            return tuple(value for value in results.values() if isinstance(value, torch.Tensor))

    data = torch.ones(case.shape, dtype=torch.int64) if "vocab_size" in case.config else torch.randn(case.shape)
    names = ["data", "mask"] if case.masked else ["data"]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Outputs().eval(), (data, torch.ones_like(data)) if case.masked else (data,), str(file), dynamo=False,
            opset_version=17, input_names=names, dynamic_axes={name: {0: "batch"} for name in names},
        )  # fmt: skip
