"""Measuring speed for moments only: what whoever asks nothing about it wastes no time on.

Verdicts hold all the same, for their intervals say how little is known; they are only less often sure.
"""

from types import ModuleType

BRIEF_SECONDS = {"seconds": 0.05, "warm_up": 0.01}
"""How long a measurement takes unless its caller says."""


def measure_briefly(measure: ModuleType) -> None:
    """Give every function of ``graphpress.runtime.measure`` these defaults, for the rest of this process."""
    for function in vars(measure).values():
        defaults = getattr(function, "__kwdefaults__", None) or {}
        defaults.update({name: BRIEF_SECONDS[name] for name in BRIEF_SECONDS.keys() & defaults.keys()})
