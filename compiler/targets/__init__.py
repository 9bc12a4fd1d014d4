"""Targets are data: a TOML file each, beside this module, in another package, or the user's own."""

from graphpress.targets.load import broken_targets, load_target, options_of, target_summaries
from graphpress.targets.sources import aliases_of, origin_of, target_names
from graphpress.targets.target import Option, Processor, QuantizationPolicy, SparsityPolicy, Target

__all__ = [
    "Option",
    "Processor",
    "QuantizationPolicy",
    "SparsityPolicy",
    "Target",
    "aliases_of",
    "broken_targets",
    "load_target",
    "options_of",
    "origin_of",
    "target_names",
    "target_summaries",
]
