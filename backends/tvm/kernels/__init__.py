"""Kernels: each a frozen dataclass of what decides its code, which it builds for an instruction set."""
