"""Targets are data: one TOML file each, beside this module."""

from graphpress.targets.target import (
    QuantizationPolicy,
    Target,
    aliases_of,
    load_target,
    target_names,
    target_summaries,
)

__all__ = ["QuantizationPolicy", "Target", "aliases_of", "load_target", "target_names", "target_summaries"]
