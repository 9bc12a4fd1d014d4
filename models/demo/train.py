"""Trains the demo network and writes ``digits.onnx``: ``python -m graphpress.models.demo.train [FILE]``.

Needs the extras ``torch`` and ``demo``; takes about 20 seconds on one core and is repeatable on the same machine.
The torch modules carry the parameter names of the ONNX graph, so the trained state goes across by name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from graphpress.ir import save
from graphpress.models.demo.data import evaluation, training
from graphpress.models.demo.network import CLASSES, WIDTHS, build

SEED = 0
EPOCHS = 40
BATCH = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-3


class Unit(nn.Module):
    """Convolution and batch normalization."""

    def __init__(self, channels: tuple[int, int], kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, D, H', W')."""
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two units and the sum with their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = Unit((width, width)), Unit((width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the same shape."""
        return self.second(torch.relu(self.first(x))) + x  # type: ignore[no-any-return]


class Digits(nn.Module):
    """The network of ``graphpress.models.demo.network`` in torch."""

    def __init__(self) -> None:
        super().__init__()
        narrow, wide = WIDTHS
        self.stem = Unit((1, narrow))
        self.residual = Residual(narrow)
        self.widen = Unit((narrow, wide))
        self.depthwise = Unit((wide, wide), stride=2, groups=wide)
        self.pointwise = Unit((wide, wide), kernel=1)
        self.head = nn.Linear(wide, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, 1, 8, 8) to logits (N, 10)."""
        for unit in (self.stem, self.residual, self.widen, self.depthwise, self.pointwise):
            x = torch.relu(unit(x))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def train() -> Digits:
    """Train from scratch with images moved by up to one pixel, and return the network in inference mode."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    images, labels = (torch.from_numpy(array) for array in training())
    network = Digits()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(images)), BATCH):
            loss = nn.functional.cross_entropy(network(_moved(images[batch])), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return network.eval()


def accuracy(network: Digits) -> float:
    """Top-1 on the held-out images, 0 to 1."""
    images, labels = evaluation()
    with torch.no_grad():
        predicted = network(torch.from_numpy(images)).argmax(1).numpy()
    return float(np.mean(predicted == labels))


def main(file: Path) -> None:
    """Train, write the ONNX file, and print the held-out accuracy."""
    network = train()
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    save(build(weights), file)
    print(f"{file}: {file.stat().st_size} bytes, held-out top-1 {accuracy(network):.4f}")


def _moved(images: torch.Tensor) -> torch.Tensor:
    """Move a batch by up to one pixel along each axis, zeros coming in."""
    row, column = torch.randint(0, 3, (2,)).tolist()
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    return padded[:, :, row : row + 8, column : column + 8]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("digits.onnx"))
