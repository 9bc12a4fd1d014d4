"""The PyTorch bridge. Modules of this package import torch; nothing outside it does so when it is imported."""
