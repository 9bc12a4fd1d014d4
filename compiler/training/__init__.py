"""Training on top of the PyTorch bridge: loop, losses, data, schedule, checkpoints. Its modules import torch."""
