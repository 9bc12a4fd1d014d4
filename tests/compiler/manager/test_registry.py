"""Passes and backends by name, our own and those of other packages."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import pytest

from graphpress import plugins
from graphpress.errors import UsageError
from graphpress.manager import registry
from graphpress.manager.contract import Pass


@dataclass(frozen=True)
class Trim(Pass):
    name: ClassVar[str] = "trim"


class FailsToStart:
    def __init__(self):
        raise OSError("no device")


@pytest.fixture
def installed(monkeypatch):
    """Pretend that packages with these entry points are installed: (package, name, value)."""

    def install(*points):
        found = [
            SimpleNamespace(name=name, value=value, dist=SimpleNamespace(name=package))
            for package, name, value in points
        ]
        monkeypatch.setattr(plugins, "entry_points", lambda group: found)
        plugins._entries.cache_clear()

    yield install
    monkeypatch.undo()
    plugins._entries.cache_clear()


NEEDED = {"surgery": ["function"], "train": ["loop"]}


@pytest.mark.parametrize("name", sorted(registry.OWN_PASSES))
def test_our_own_passes_are_what_the_table_says(name):
    kind = registry.load_pass(name)
    assert issubclass(kind, Pass)
    assert kind.name == name
    assert kind.__doc__
    assert kind(**dict.fromkeys(NEEDED.get(name, ()), "module:function"))


@pytest.mark.parametrize("name", sorted(registry.OWN_BACKENDS))
def test_our_own_backends_load_and_say_whether_they_work(name):
    state = registry.load_backend(name).available()
    assert state.detail
    assert state.works or state.install


def test_a_third_party_pass_is_found(installed):
    installed(("acme", "trim", f"{__name__}:Trim"))
    assert "trim" in registry.pass_names()
    assert registry.load_pass("trim").name == "trim"


def test_two_packages_with_one_name_are_both_named(installed):
    installed(("acme", "trim", "acme:Trim"), ("bolt", "trim", "bolt:Trim"))
    with pytest.raises(UsageError, match="'trim' is claimed by acme and by bolt"):
        registry.pass_names()


def test_nobody_may_take_one_of_our_names(installed):
    installed(("acme", "quantize", "acme:Quantize"))
    with pytest.raises(UsageError, match="claimed by graphpress and by acme"):
        registry.load_pass("quantize")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("no_such_package:Trim", "ModuleNotFoundError"),
        ("json:Trim", "AttributeError"),
        ("json:dumps", "is no pass"),
        (f"{__name__}:FailsToStart", "is no pass"),
    ],
)
def test_a_broken_third_party_pass_is_said(installed, value, what):
    installed(("acme", "trim", value))
    with pytest.raises(UsageError, match=what) as raised:
        registry.load_pass("trim")
    assert raised.value.fix


def test_a_pass_under_another_name_than_its_own_is_refused(installed):
    installed(("acme", "cut", f"{__name__}:Trim"))
    with pytest.raises(UsageError, match="is no pass of the name 'cut'"):
        registry.load_pass("cut")


def test_a_backend_that_fails_to_start_is_said(installed):
    installed(("acme", "device", f"{__name__}:FailsToStart"))
    with pytest.raises(UsageError, match=r"cannot be made \(OSError: no device\)"):
        registry.load_backend("device")


@pytest.mark.parametrize("load", [registry.load_pass, registry.load_backend])
def test_unknown_names_come_with_a_hint(load):
    with pytest.raises(UsageError) as raised:
        load("quantis" if load is registry.load_pass else "onnxruntim")
    assert "did you mean" in raised.value.fix


def test_renamed_passes_are_passes_of_today_and_no_old_name_is_taken_again():
    assert set(registry.RENAMED_PASSES.values()) <= set(registry.OWN_PASSES)
    assert not set(registry.RENAMED_PASSES) & set(registry.OWN_PASSES)


@pytest.mark.parametrize(("old", "new"), registry.RENAMED_PASSES.items())
def test_an_old_name_is_answered_with_the_new_one(old, new):
    with pytest.raises(UsageError) as raised:
        registry.load_pass(old)
    assert raised.value.fix == f"it is called {new} now"
