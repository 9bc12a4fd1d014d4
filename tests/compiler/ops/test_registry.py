"""Rules are gathered from families, once an operator."""

import pytest

from graphpress.ops import FAMILIES, OPERATORS, RuleRegistry, operator_key


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of families, made of the operators of each."""

    def make(name, **families):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        for family, operators in families.items():
            rules = {operator: f"{family}'s {operator}" for operator in operators}
            (folder / f"{family}.py").write_text(f"def entries():\n    return {rules!r}\n")
        monkeypatch.syspath_prepend(tmp_path)
        return RuleRegistry[str](name, tuple(families))

    return make


def test_each_operator_has_the_rule_of_its_family(package):
    registry = package("rules_apart", conv=["Conv"], unary=["Relu", "com.example:Relu"])
    assert registry.lookup("Conv") == registry.lookup("Conv", "ai.onnx") == "conv's Conv"
    assert registry.lookup("Relu", "com.example") == "unary's com.example:Relu"
    assert registry.lookup("Conv", "com.example") is None
    assert registry.families == {"Conv": "conv", "Relu": "unary", "com.example:Relu": "unary"}


def test_two_rules_for_one_operator_are_an_error_that_names_both(package):
    registry = package("rules_twice", conv=["Conv"], unary=["Relu", "Conv"])
    with pytest.raises(ValueError, match="Conv has two rules in rules_twice: in conv and in unary"):
        registry.lookup("Relu")


def test_a_family_without_a_module_is_an_error(package):
    package("rules_lost", conv=["Conv"])
    with pytest.raises(ModuleNotFoundError, match="unary"):
        RuleRegistry("rules_lost", ("conv", "unary")).lookup("Conv")


def test_rules_cannot_be_changed():
    with pytest.raises(TypeError):
        OPERATORS.rules["Conv"] = None


def test_every_family_has_operators():
    assert set(OPERATORS.families.values()) == set(FAMILIES)


@pytest.mark.parametrize(
    ("domain", "key"), [("", "Gelu"), ("ai.onnx", "Gelu"), ("com.microsoft", "com.microsoft:Gelu")]
)
def test_operators_of_other_domains_are_named_with_them(domain, key):
    assert operator_key("Gelu", domain) == key
