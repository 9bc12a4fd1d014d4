"""Seconds to find the coupled groups of a graph and to remove half of each, by the number of nodes.

python benchmarks/coupling.py
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from graphpress.coupling import couple, remove, unshare
from graphpress.ir import count_nodes
from graphpress.models import build

GRAPHS: list[tuple[str, dict[str, Any]]] = [
    ("nas", {"nodes": 1500}),
    ("nas", {"nodes": 4000}),
    ("nas", {"nodes": 16000}),
    ("densenet", {"blocks": (6, 12, 48, 32)}),
    ("shufflenet", {"blocks": (40, 80, 40)}),
    ("gpt", {"layers": 48}),
]

if __name__ == "__main__":
    print("| graph | nodes | groups | coupling | removal |\n|---|---|---|---|---|")
    for name, sizes in GRAPHS:
        model = build(name, **sizes)
        began = time.perf_counter()
        unshare(model)
        coupling = couple(model)
        coupled = time.perf_counter()
        remove(
            model, coupling, {group.name: np.arange(group.size) < (group.size + 1) // 2 for group in coupling.groups}
        )
        removed = time.perf_counter()
        size = ", ".join(f"{key}={value}" for key, value in sizes.items())
        times = f"{coupled - began:.2f} s | {removed - coupled:.2f} s"
        print(f"| {name} ({size}) | {count_nodes(model):,} | {len(coupling.groups):,} | {times} |", flush=True)
