"""The PyTorch bridge. Modules of this room import torch; nothing outside it does so when it is imported."""
