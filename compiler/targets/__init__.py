"""Targets are data: one TOML file each, beside this module."""

from graphpress.targets.target import QuantizationPolicy, Target, load_target, target_names

__all__ = ["QuantizationPolicy", "Target", "load_target", "target_names"]
