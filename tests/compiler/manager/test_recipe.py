"""Recipes as file, text, Python and manifest; what is wrong with one is said."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.errors import UsageError
from graphpress.manager import recipe, recipe_file
from graphpress.manager.contract import Pass
from graphpress.manager.manifest import Manifest, write_manifest
from graphpress.manager.recipe import (
    Recipe,
    from_name,
    from_passes,
    from_text,
    options_of,
    reference_of,
)
from graphpress.manager.recipe_file import FOLDER, recipe_names
from graphpress.manager.registry import load_pass, pass_names
from graphpress.plugins import NamedFile

QUANTIZE = st.fixed_dictionaries(
    {},
    optional={
        "calibration_method": st.sampled_from(["minmax", "percentile", "mse"]),
        "percentile": st.floats(50, 100, exclude_min=True),
        "per_channel": st.none() | st.booleans(),
    },
)

NEEDED = {"surgery": {"function": "module:function"}, "train": {"loop": "module:function"}}


@dataclass(frozen=True)
class Trim(Pass):
    name: ClassVar[str] = "trim"

    ratio: float = 0.5
    layers: tuple[str, ...] = ()


@st.composite
def pipelines(draw):
    names = draw(st.lists(st.sampled_from(pass_names()), min_size=1, max_size=5))
    return tuple(load_pass(name)(**(draw(QUANTIZE) if name == "quantize" else NEEDED.get(name, {}))) for name in names)


def table_of(recipe):
    """The content of a recipe file for a pipeline."""
    named = [(reference_of(step), options_of(step)) for step in recipe.passes]
    return {"passes": [{name: fields} if fields else name for name, fields in named]}


@settings(deadline=None)
@given(pipelines())
def test_python_text_and_file_hold_the_same_passes(tmp_path_factory, passes):
    recipe = from_passes(passes)
    assert from_text(recipe.text()).passes == recipe.passes
    for suffix, write in ((".yaml", yaml.safe_dump), (".json", json.dumps)):
        file = tmp_path_factory.mktemp("recipes") / f"recipe{suffix}"
        file.write_text(write(table_of(recipe)), encoding="utf-8")
        assert from_name(str(file)).passes == recipe.passes
        assert from_name(str(file)).text() == recipe.text()


@pytest.mark.parametrize("make", [lambda: from_text(" "), lambda: from_passes(())])
def test_an_empty_pipeline_is_a_mistake(make):
    with pytest.raises(UsageError, match="names no pass"):
        make()


@pytest.mark.parametrize("name", recipe_names())
def test_built_in_recipes_load_and_have_a_description(name):
    recipe = from_name(name)
    assert recipe.passes
    assert recipe.explicit == frozenset()
    assert yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["description"]


def names(text):
    return [one.name for one in from_text(text).passes if not one.lossless]


def test_what_a_pass_requires_is_put_before_it_once():
    assert names("prune,distill") == ["prune", "reconstruct", "distill"]
    assert names("prune,reconstruct,distill") == ["prune", "reconstruct", "distill"]
    assert names("prune,distill,prune,distill") == ["prune", "reconstruct", "distill"] * 2
    passes = [one.name for one in from_text("prune,prune").passes]
    assert passes.count("fold_constants") == 1
    assert passes.index("fold_constants") < passes.index("prune")


@pytest.mark.parametrize(
    ("text", "lossy"),
    [
        ("prune", ["prune", "reconstruct"]),
        ("prune,cleanup", ["prune", "reconstruct"]),
        ("prune_depth", ["prune_depth", "reconstruct"]),
        ("prune,quantize", ["prune", "reconstruct", "quantize"]),
        ("prune,prune", ["prune", "reconstruct"] * 2),
        ("prune,correct_bias", ["prune", "correct_bias"]),
        ("prune,repair,quantize", ["prune", "repair", "quantize"]),
        ("prune{recover=false}", ["prune"]),
        ("prune{recover=false},quantize", ["prune", "quantize"]),
    ],
)
def test_a_recovery_follows_where_none_is_named(text, lossy):
    assert names(text) == lossy
    recipe = from_text(text)
    assert names(recipe.text()) == lossy, "as a manifest replays it"
    assert "reconstruct" not in recipe.explicit


def test_clean_up_is_lossless():
    assert all(one.lossless for one in from_name("cleanup").passes)


def test_a_built_in_recipe_stands_for_its_passes():
    both = from_text("cleanup,quantize{calibration_method=minmax}")
    assert both.passes[:-1] == from_name("cleanup").passes
    assert options_of(both.passes[-1]) == {"calibration_method": "minmax"}
    assert both.explicit == {"quantize"}


def test_user_code_is_named_by_module_and_class(tmp_path, monkeypatch):
    (tmp_path / "shop.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom graphpress import Pass\n"
        "@dataclass(frozen=True)\nclass Trim(Pass):\n    name: ClassVar[str] = 'trim'\n    ratio: float = 0.5\n"
    )
    monkeypatch.chdir(tmp_path)
    recipe = from_text("shop:Trim{ratio=0.25}")
    assert options_of(recipe.passes[0]) == {"ratio": 0.25}
    assert recipe.explicit == {"trim"}
    assert recipe.text() == "shop:Trim{ratio=0.25}"
    assert from_text(recipe.text()).passes == recipe.passes


def test_tuples_go_through_text_and_file():
    recipe = from_passes([Trim(ratio=0.25, layers=("a", "b"))])
    assert recipe.text() == f"{Trim.__module__}:Trim{{ratio=0.25,layers=[a, b]}}"
    assert table_of(recipe)["passes"][0] == {f"{Trim.__module__}:Trim": {"ratio": 0.25, "layers": ["a", "b"]}}


def test_hooks_are_named_in_the_file(tmp_path):
    (tmp_path / "log_hooks.py").write_text("def after(*arguments):\n    return 'called'\n")
    file = tmp_path / "recipe.yaml"
    file.write_text("passes: [cleanup]\nhooks: {after_pass: 'log_hooks:after'}\n")
    assert from_name(str(file)).hooks["after_pass"]() == "called"


def test_a_manifest_is_a_recipe_with_decisions(tmp_path):
    recipe = from_text("fold_constants,quantize{percentile=99.5}")
    decisions = {"explicit": ["quantize"], "delivered": "quantize"}
    manifest = Manifest(recipe=recipe.text(), target="cpu", backend="onnxruntime", decisions=decisions)
    write_manifest(manifest, tmp_path / "m.json")
    replayed = from_name(str(tmp_path / "m.json"))
    assert replayed == Recipe(recipe.passes, frozenset({"quantize"}), {}, decisions, manifest)


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("quantis", "unknown pass 'quantis'", "did you mean 'quantize'?"),
        ("gelu", "unknown pass 'gelu'", "it is called fuse_gelu now"),
        ("cleanup,merge_common", "unknown pass 'merge_common'", "it is called cse now"),
        ("quantize{percentil=1}", "has no field 'percentil'", "did you mean 'percentile'?"),
        ("quantize{percentile=much}", "percentile", "optimize passes quantize"),
        ("quantize{calibration_method=magic}", "calibration_method", "optimize passes quantize"),
        ("dce{x=1}", "has no field 'x'", "no fields"),
        ("cleanup{x=1}", "takes no fields", "name the passes"),
        ("json:dumps", "is no pass", "subclass"),
    ],
)
def test_wrong_text(text, what, fix):
    with pytest.raises(UsageError) as raised:
        from_text(text)
    assert what in raised.value.what
    assert fix in raised.value.fix


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.yaml", "passes: [", "not readable as a recipe"),
        ("a.json", "{", "not readable as a recipe"),
        ("a.yaml", "- cleanup", "holds no table"),
        ("a.yaml", "pases: []", "unknown key 'pases'"),
        ("a.yaml", "passes: cleanup", "has no list of passes"),
        ("a.yaml", "passes: [1]", "cannot read the entry 1"),
        ("a.yaml", "passes: [{quantize: 3}]", "cannot read the entry"),
        ("a.yaml", "passes: []\nhooks: {after: 'x:y'}", "unknown hook 'after'"),
        ("a.yaml", "passes: []\nhooks: [x]", "hooks"),
        ("a.yaml", b"\xff\xfe\x00", "not readable as a recipe"),
        ("a.json", '{"manifest_version": 1}', "malformed manifest"),
        ("a.json", '{"manifest_version": 99}', "version 99"),
    ],
)
def test_wrong_file(tmp_path, name, content, what):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as raised:
        from_name(str(file))
    assert what in str(raised.value)
    assert raised.value.fix


def test_a_hook_that_is_not_there_is_said(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("passes: []\nhooks: {after_pass: 'no_such_module_here:f'}")
    with pytest.raises(UsageError, match="no_such_module_here"):
        from_name(str(file))


@pytest.fixture
def named(tmp_path, monkeypatch):
    """A recipe of another package, by name."""

    def write(text):
        (tmp_path / "acme.yaml").write_text(text)
        source = NamedFile("acme", tmp_path / "acme.yaml", "acme")
        table = {**recipe_file.named_recipes(), "acme": source}
        for module in (recipe_file, recipe):
            monkeypatch.setattr(module, "named_recipes", lambda: table)

    return write


def test_a_recipe_of_another_package_brings_its_hooks_where_it_is_the_whole_run(named, tmp_path):
    (tmp_path / "acme_hooks.py").write_text("def after(*arguments):\n    return 'called'\n")
    named("passes: [cleanup]\nhooks: {after_pass: 'acme_hooks:after'}\n")
    assert from_name("acme").hooks["after_pass"]() == "called"
    assert from_name("acme").passes == from_name("cleanup").passes
    with pytest.raises(UsageError, match="has hooks, which are for whole runs"):
        from_text("acme,quantize")


def test_a_recipe_that_holds_itself_is_refused(named):
    named("passes: [acme]")
    with pytest.raises(UsageError, match="holds itself"):
        from_name("acme")


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'cleanup'"):
        from_name("clean-up")


@pytest.mark.parametrize("text", ["prune{ratio=0.5}", "prune,distill{minutes=10}", "quantize"])
def test_passes_in_place_of_a_recipe_are_told_where_they_belong(text):
    with pytest.raises(UsageError) as told:
        from_name(text)
    assert f'--passes "{text}"' in told.value.fix


def test_no_recipe_folder_is_taken_for_a_recipe(tmp_path):
    with pytest.raises(UsageError):
        from_name(str(Path(tmp_path)))


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("passes: [gelu]", "unknown pass 'gelu'", "it is called fuse_gelu now"),
        ("passes: [{quantize: {percentle: 99}}]", "has no field 'percentle'", "percentile"),
        ("passes: quantize", "has no list of passes", "passes: [cleanup]"),
    ],
)
def test_what_is_wrong_in_a_file_names_the_file(tmp_path, text, what, fix):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        from_name(str(file))
    assert what in caught.value.what
    assert fix in (caught.value.fix or "")
    assert caught.value.where == str(file)


@pytest.mark.parametrize("reference", ["log_hooks", "log_hooks:", ":after", "3", "[a]", "log hooks:after"])
def test_a_hook_without_a_function_says_how_to_write_it(tmp_path, reference):
    file = tmp_path / "recipe.yaml"
    file.write_text(
        f"passes: [cleanup]\nhooks: {{after_pass: {reference if reference[0] == '[' else repr(reference)}}}\n"
    )
    with pytest.raises(UsageError, match="the hook after_pass cannot be") as raised:
        from_name(str(file))
    assert raised.value.fix == "write after_pass: module:function"


@pytest.mark.parametrize("text", ["passes: []", '{"passes": []}'])
def test_a_file_that_names_no_pass_is_an_error(tmp_path, text):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match="names no pass") as raised:
        from_name(str(file))
    assert raised.value.where == str(file)


@pytest.mark.parametrize("name", ["deep.json", "deep.yaml"])
def test_a_file_that_is_nested_too_deeply_is_an_error(tmp_path, name):
    (tmp_path / name).write_text('{"passes": ' + "[" * 3_000)
    with pytest.raises(UsageError, match=r"nested too deeply|not readable"):
        from_name(str(tmp_path / name))
