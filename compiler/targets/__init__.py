"""Targets are data: one TOML file each, beside this module."""

from graphpress.targets.target import (
    Option,
    QuantizationPolicy,
    SparsityPolicy,
    Target,
    aliases_of,
    load_target,
    options_of,
    target_names,
    target_summaries,
)

__all__ = [
    "Option",
    "QuantizationPolicy",
    "SparsityPolicy",
    "Target",
    "aliases_of",
    "load_target",
    "options_of",
    "target_names",
    "target_summaries",
]
