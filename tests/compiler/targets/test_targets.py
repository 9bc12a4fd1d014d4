"""Targets are data: every file loads, and what it names exists."""

import tomllib

import pytest

from graphpress.errors import UsageError
from graphpress.manager.recipe_file import recipe_names
from graphpress.manager.registry import backend_names
from graphpress.ops import lookup
from graphpress.targets import aliases_of, load_target, options_of, sources, target_names, target_summaries


@pytest.mark.parametrize("name", target_names())
def test_every_target_is_whole(name):
    target = load_target(name)
    assert target.name == name or name in aliases_of(target.name)
    assert target.description
    assert target.recipe in recipe_names()
    assert target.backend in backend_names()
    policy = target.quantization
    for op_type in (*policy.compute_ops, *policy.quantizable_neighbors, *policy.pass_through_ops):
        assert lookup(op_type) is not None, op_type
    assert set(policy.float_results) <= set(policy.compute_ops)
    assert not set(policy.compute_ops) & {*policy.quantizable_neighbors, *policy.pass_through_ops}
    assert not set(policy.quantizable_neighbors) & set(policy.pass_through_ops)
    for op_type in policy.compute_ops:
        assert lookup(op_type).quantization.weight is not None
    for op_type in policy.pass_through_ops:
        assert lookup(op_type).quantization.moves_data, op_type


def test_the_machine_at_hand_is_a_target_and_the_only_one():
    assert [name for name in target_names() if load_target(name).this_machine] == ["cpu"]


def test_summaries_name_every_target():
    assert [name for name, _, _ in target_summaries()] == [
        name for name in target_names() if name == load_target(name).name
    ]


def test_an_unknown_target_comes_with_a_hint():
    with pytest.raises(UsageError) as raised:
        load_target("raspberypi4")
    assert raised.value.fix == "did you mean 'raspberrypi4'?"


def forget():
    for cached in (sources.named, sources._aliases):
        cached.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Targets of a test's own."""

    def write(**tables):
        for name, text in tables.items():
            tomllib.loads(text)
            (tmp_path / f"{name}.toml").write_text(text)
        forget()

    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    yield write
    monkeypatch.undo()
    forget()


BASE = """
description = "a base"
opset_max = 20
aliases = ["b"]
[quantization]
compute_ops = ["Conv"]
bias = "float32"
"""


def test_a_target_like_another_changes_only_what_it_says(folder):
    folder(base=BASE, child='like = "base"\ndescription = "a child"\n[quantization]\nbias = "int32"\n')
    child = load_target("child")
    assert (child.opset_max, child.quantization.compute_ops, child.quantization.bias) == (20, ("Conv",), "int32")
    assert aliases_of("child") == []
    assert load_target("b").name == "base"


@pytest.mark.parametrize(("features", "reduced"), [(("avx512_vnni",), False), (("avx2",), True)])
def test_features_of_this_machine_adjust_it(folder, monkeypatch, features, reduced):
    text = BASE + '[[adjust]]\nlacks = ["avx512_vnni"]\nquantization = {reduced_range = true}\n'
    folder(here="this_machine = true\n" + text, elsewhere=text.replace('"b"', '"c"'))
    monkeypatch.setattr("graphpress.runtime.environment.cpu_features", lambda: features)
    assert load_target("here").quantization.reduced_range is reduced
    assert load_target("here").quantization.compute_ops == ("Conv",)
    assert load_target("elsewhere").quantization.reduced_range is False


WITH_OPTIONS = """
description = "a device"
peak_gmacs = { float32 = 1.0 }
[options.release]
default = "1"
"1" = {}
"2" = { opset_max = 24 }
[options.speed]
default = "slow"
slow = {}
fast = { bandwidth_gbs = 9.0, needs = { release = ["2"] } }
"""


def test_a_target_like_another_keeps_replaces_or_drops_its_options(folder):
    folder(
        base=WITH_OPTIONS,
        same='like = "base"\ndescription = "same"',
        fewer='like = "base"\ndescription = "fewer"\npeak_gmacs = { int8 = 2.0 }\n[options]\nspeed = {}',
        other='like = "base"\ndescription = "other"\n[options.release]\ndefault = "3"\n"3" = { opset_max = 25 }',
    )
    assert options_of("same") == options_of("base")
    assert list(options_of("fewer")) == ["release"]
    assert load_target("fewer").peak_gmacs == {"int8": 2.0}
    assert options_of("other")["release"].choices == ("3",)
    assert load_target("other").opset_max == 25


def test_a_word_changes_the_target_and_may_need_another(folder):
    folder(base=WITH_OPTIONS)
    assert load_target("base").chosen == {"release": "1", "speed": "slow"}
    assert load_target("base{speed=fast,release=2}").bandwidth_gbs == 9.0
    with pytest.raises(UsageError, match="speed=fast does not go with release=1"):
        load_target("base{speed=fast}")
