"""VGG-small and a ResNet-18 of half the width, trained on CIFAR-10: every layer is as full as training leaves it.

    GRAPHPRESS_DATA=… python benchmarks/cifar_nets.py /var/tmp/nets vgg_small resnet18

writes ``<folder>/<name>.onnx``, normalizations as nodes, and trains only what is not there. It learns from the labels
and from the answers of ResNet-32 (Hinton et al., arXiv 1503.02531), on shifted and mirrored images; the answers to
three variants of each image are computed once. Everything is a function of the seed.
"""

from __future__ import annotations

import argparse
import io
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from graphpress.ir import load
from graphpress.runtime import Session

DATA = Path(os.environ["GRAPHPRESS_DATA"])
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
TEACHER = "resnet32_cifar10.onnx"

BATCH, RATE, DECAY, MOMENTUM = 128, 0.1, 5e-4, 0.9
TEMPERATURE, LABELS = 4.0, 0.1
"""Of the teacher's answers, and the weight of the labels beside them."""
VARIANTS, SHIFT, SEED = 3, 4, 0


def images() -> tuple[np.ndarray, np.ndarray]:
    """The training set: exact pixels and re-compressed ones, ``[N, 32, 32, 3]``, and the classes."""
    exact = np.load(DATA / "cifar10_lossless_train5292_test500.npz")
    with zipfile.ZipFile(DATA / "cifar10_jpeg_train10000.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        pixels = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
    classes = [int(Path(name).name.split("_")[1]) for name in names]
    return np.concatenate([exact["x_train"], np.stack(pixels)]), np.concatenate([exact["y_train"], classes])


def variant(pixels: np.ndarray, seed: int) -> Tensor:
    """Normalized images, each shifted by up to four pixels, half of them mirrored: ``[N, 3, 32, 32]``."""
    random, count, side = np.random.default_rng(seed), len(pixels), pixels.shape[1]
    wide = np.pad(pixels, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="reflect")
    down, right = random.integers(0, 2 * SHIFT + 1, (2, count, 1))
    along = np.arange(side)
    columns = np.where(random.random((count, 1)) < 0.5, along[::-1], along) + right
    moved = wide[np.arange(count)[:, None, None], (along + down)[:, :, None], columns[:, None]]
    normal = ((moved / 255 - MEAN) / DEVIATION).astype(np.float32)
    return torch.from_numpy(normal).permute(0, 3, 1, 2)


def mirrored(some: Tensor) -> Tensor:
    """Half of the images, drawn anew: the teacher's answer hardly tells left from right."""
    return torch.where(torch.rand(len(some), 1, 1, 1) < 0.5, some.flip(3), some)


def answers(pixels: np.ndarray, folder: Path) -> list[Tensor]:
    """The teacher's scores for every variant of the images, ``[N, 10]`` each."""
    path = folder / "answers.npy"
    if not path.exists():
        session = Session(load(DATA / TEACHER), threads=torch.get_num_threads())
        (name,) = (each.name for each in session.inputs)
        scores = [
            np.concatenate([next(iter(session.run({name: some.numpy()}).values())) for some in whole.split(500)])
            for whole in (variant(pixels, seed) for seed in range(VARIANTS))
        ]
        np.save(path, np.stack(scores))
    return list(torch.from_numpy(np.load(path)))


def normalized(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution with its normalization."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


def vgg_small() -> nn.Sequential:
    """Two convolutions a stage, of 32, 64, 128 and 256 channels (after Simonyan and Zisserman, arXiv 1409.1556)."""
    layers, before = list[nn.Module](), 3
    for width in (32, 64, 128, 256):
        for inputs in (before, width):
            layers += [*normalized(inputs, width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.long = nn.Sequential(*normalized(inputs, outputs, 3, stride), nn.ReLU(), *normalized(outputs, outputs))
        changes = stride > 1 or inputs != outputs
        self.short = nn.Sequential(*normalized(inputs, outputs, 1, stride)) if changes else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.long(x) + self.short(x))


def resnet18() -> nn.Sequential:
    """Four stages of two blocks (He et al., arXiv 1512.03385) behind a 3×3 stem, of 32 to 256 channels."""
    layers, before = [*normalized(3, 32), nn.ReLU()], 32
    for width in (32, 64, 128, 256):
        layers += [Block(before, width, width // before), Block(width, width, 1)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


NETS: dict[str, tuple[Callable[[], nn.Sequential], int]] = {"vgg_small": (vgg_small, 32), "resnet18": (resnet18, 16)}
"""What builds each net, and for how many epochs it trains."""


def train(net: nn.Module, epochs: int, folder: Path) -> None:
    """Cosine of the rate after a short rise, in bfloat16."""
    pixels, classes = images()
    scores, labels = answers(pixels, folder), torch.from_numpy(classes)
    net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True)
    batches = len(pixels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, epochs * batches, pct_start=0.15)
    for epoch in range(epochs):
        seen, wanted = variant(pixels, epoch % VARIANTS), scores[epoch % VARIANTS]
        for batch in torch.randperm(len(pixels))[: batches * BATCH].split(BATCH):
            with torch.autocast("cpu", torch.bfloat16):
                given = net(mirrored(seen[batch]).contiguous(memory_format=torch.channels_last)).float()
            error = loss(given, wanted[batch], labels[batch])
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {error.item():.3f}", flush=True)


def loss(given: Tensor, wanted: Tensor, labels: Tensor) -> Tensor:
    """The divergence from the teacher's answers, and the labels."""
    near, target = (functional.log_softmax(scores / TEMPERATURE, 1) for scores in (given, wanted))
    divergence = TEMPERATURE**2 * functional.kl_div(near, target, reduction="batchmean", log_target=True)
    return divergence + LABELS * functional.cross_entropy(given, labels)


def export(net: nn.Module, path: Path) -> None:
    """As a file, its normalizations not folded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            net.eval().to(memory_format=torch.contiguous_format), (torch.zeros(1, 3, 32, 32),), path, dynamo=False,
            input_names=["input"], output_names=["scores"], dynamic_axes={"input": {0: "N"}, "scores": {0: "N"}},
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip


def trained(name: str, folder: Path) -> Path:
    """The file of a trained net; trained now where it is not there."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(SEED)
        build, epochs = NETS[name]
        net = build()
        train(net, epochs, folder)
        export(net, path)
    return path


def main() -> None:
    """Train what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(NETS), choices=list(NETS), metavar=f"{{{','.join(NETS)}}}")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.names or NETS:
        print(trained(name, given.folder), flush=True)


if __name__ == "__main__":
    main()
