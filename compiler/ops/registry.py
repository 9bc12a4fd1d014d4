"""Rules by operator, each in the module of its family: the operator table, translations, and a backend's lowering.

A family is a module of one package with a function ``entries``, which gives its rules by operator. An operator of the
standard's domain goes by its name, one of another domain by ``domain:name``. Every package splits the operators alike,
into the families of ``FAMILIES``, so that what belongs to an operator stands in files of one name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from types import MappingProxyType
from typing import Generic, TypeVar

from graphpress.ir.values import STANDARD_DOMAINS

Rule = TypeVar("Rule")

FAMILIES = (
    "attention",
    "conv",
    "data_dependent",
    "elementwise",
    "layout",
    "matmul",
    "norm",
    "pooling",
    "quantized",
    "recurrent",
    "reduce",
    "resize",
    "sampling",
    "scatter",
    "select",
    "softmax",
    "sources",
    "unary",
)
"""How operators are split into modules."""


def operator_key(op_type: str, domain: str = "") -> str:
    """The name of an operator among rules: ``Conv``, or ``com.microsoft:Gelu``."""
    return op_type if domain in STANDARD_DOMAINS else f"{domain}:{op_type}"


class RuleRegistry(Generic[Rule]):
    """The rules of one package, gathered when they are first asked for.

    Args:
        package: the package whose modules the families are.
        families: names of its modules.
    """

    def __init__(self, package: str, families: Sequence[str] = FAMILIES) -> None:
        self._package, self._names = package, families

    def lookup(self, op_type: str, domain: str = "") -> Rule | None:
        """The rule of an operator, or None when there is none."""
        return self.rules.get(operator_key(op_type, domain))

    @cached_property
    def rules(self) -> Mapping[str, Rule]:
        """All rules by operator.

        Raises:
            ValueError: two families have a rule for the same operator.
        """
        return MappingProxyType({key: rule for rules in self._by_family.values() for key, rule in rules.items()})

    @cached_property
    def families(self) -> Mapping[str, str]:
        """The family of each operator.

        Raises:
            ValueError: two families have a rule for the same operator.
        """
        return MappingProxyType({key: family for family, rules in self._by_family.items() for key in rules})

    @cached_property
    def _by_family(self) -> dict[str, Mapping[str, Rule]]:
        gathered: dict[str, Mapping[str, Rule]] = {}
        owners: dict[str, str] = {}
        for family in self._names:
            gathered[family] = import_module(f"{self._package}.{family}").entries()
            for key in gathered[family]:
                if key in owners:
                    raise ValueError(f"{key} has two rules in {self._package}: in {owners[key]} and in {family}")
                owners[key] = family
        return gathered
