"""Targets from outside: by path, like a named one or another file; what is wrong with a file is said with its place."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpress.errors import UsageError
from graphpress.targets import load_target, options_of, origin_of, target_names
from graphpress.targets.check import check_table

BOARD = """
description = "our board"
like = "arm64"
opset_max = 19
[options.release]
default = "1"
"1" = {}
"2" = { opset_max = 20 }
"""


@pytest.fixture
def board(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.toml").write_text(BOARD)
    return tmp_path / "board.toml"


@pytest.mark.parametrize("called", ["board.toml", "./board.toml"])
def test_a_file_is_a_target_by_its_path(board, called):
    target = load_target(called)
    assert (target.name, target.canonical_name, target.opset_max) == ("board", "board.toml", 19)
    assert target.quantization == load_target("arm64").quantization
    assert origin_of(called) == ""
    assert "board" not in target_names()


def test_its_options_are_chosen_in_braces(board):
    target = load_target(f"{board}{{release=2}}")
    assert (target.opset_max, target.canonical_name) == (20, f"{board}{{release=2}}")
    assert load_target(target.canonical_name) == target
    assert options_of(str(board))["release"].choices == ("1", "2")


def test_what_has_a_slash_is_a_path_too(board, tmp_path):
    (tmp_path / "other").write_text('description = "no suffix"')
    assert load_target("./other").name == "other"
    assert load_target(load_target("./other").canonical_name) == load_target("./other")


def test_it_may_be_like_another_file_beside_it(board, tmp_path):
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "child.toml").write_text('like = "../board.toml"\nmemory_bytes = 5')
    child = load_target("deep/child.toml")
    assert (child.description, child.opset_max, child.memory_bytes) == ("our board", 19, 5)


def test_a_file_that_changed_is_read_again(board):
    assert load_target("board.toml").opset_max == 19
    board.write_text(BOARD.replace("19", "18") + "\n")
    assert load_target("board.toml").opset_max == 18


@pytest.mark.parametrize(
    ("text", "said", "fix"),
    [
        ("opset_mx = 3", "opset_mx is not known", "did you mean 'opset_max'?"),
        ('opset_max = "new"', "opset_max cannot be 'new'", "give a whole number"),
        ('[quantization]\nweight = "int8"', "quantization.weight is not known", "did you mean 'weights'?"),
        ("[quantization]\nper_channel = 1", "quantization.per_channel cannot be 1", "give true or false"),
        ("opset_max = 20", "description is missing", "give a text"),
        ("[[adjust]]\nopset_max = 3", "adjust[0].lacks is missing", "docs/targets.md"),
        ("[options.speed]\nslow = {}", "options.speed.default is missing", "docs/targets.md"),
        (
            '[options.speed]\ndefault = "slw"\nslow = {}',
            "options.speed.default cannot be 'slw'",
            "did you mean 'slow'?",
        ),
        (
            '[options.speed]\ndefault = "slow"\nslow = { opset = 3 }',
            "options.speed.slow.opset is not known",
            "opset_max",
        ),
        ('[options.speed]\ndefault = "slow"\nslow = 3', "options.speed.slow cannot be 3", "give a table"),
        (
            'description = "a"\n[options.a]\ndefault = "x"\nx = { needs = { b = ["y"] } }',
            "needs an option 'b'",
            "choose one of",
        ),
        ('like = "cpus"', "board.toml: cannot be like 'cpus': unknown target 'cpus'", "did you mean 'cpu'?"),
        ('like = "board.toml"', "is like itself", "circle"),
        ("like = 3", "like cannot be 3", "give a text"),
        ("=", "not readable as a target", "TOML"),
        *(
            (f'description = "a"\n{key} = {value}', f"board.toml: {key}{place} cannot be {said}", fix)
            for key, place, value, said, fix in (
                ("quantization.activations", "", '"uint9"', "'uint9'", "did you mean 'uint8'?"),
                ("quantization.activations", "", '"float32"', "'float32'", "choose one of: int8, uint8"),
                ("quantization.weights", "", '"int4"', "'int4'", "'int8'"),
                ("quantization.bias", "", '"int16"', "'int16'", "'int32'"),
                ("quantization.scales", "", '"float17"', "'float17'", "'float16'"),
                ("quantization.compute_ops", "[0]", '["Convv"]', "'Convv'", "'Conv'"),
                ("quantization.weight_blocks", "[0]", "[0]", "0", "give at least 1"),
                ("quantization.weight_blocks", "", "[]", "[]", "give at least one"),
                ("quantization.float8_positions", "", "-1", "-1", "give at least 0"),
                ("quantization", "", "3", "3", "give a table"),
                ("sparsity.patterns", "[0]", '["foo"]', "'foo'", "give n:m, such as 2:4"),
                ("opset_max", "", "-3", "-3", "give at least 1"),
                ("opset_max", "", "99", "99", "give at most"),
                ("kernels", "[0]", '["float33"]', "'float33'", "'float32'"),
                ("kernels", "", "[]", "[]", "give at least one"),
                ("fused_operators", "[0]", '["Gelu2"]', "'Gelu2'", "'Gelu'"),
                ("channel_multiple", "", "0", "0", "give at least 1"),
                ("memory_bytes", "", "-1", "-1", "give at least 0"),
                ("bandwidth_gbs", "", "nan", "nan", "give at least 0"),
                ("bandwidth_gbs", "", "inf", "inf", "give at least 0"),
                ("bandwidth_gbs", "", "-1.5", "-1.5", "give at least 0"),
                ("peak_gmacs.float32", "", "0", "0", "give above 0"),
                ("peak_gmacs", "'s key", "{ float33 = 1 }", "'float33'", "'float32'"),
            )
        ),
        ('[options.a]\ndefault = "x"', "options.a has no word to choose", "add one"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(board, text, said, fix):
    board.write_text(text)
    with pytest.raises(UsageError) as raised:
        load_target("board.toml")
    assert said in str(raised.value)
    assert fix in raised.value.fix


@pytest.mark.parametrize("called", ["absent.toml", "no/such", "."])
def test_a_file_that_is_not_there(board, called):
    with pytest.raises(UsageError, match="no such target file" if called != "." else "unknown target"):
        load_target(called)


KEYS = st.sampled_from(
    ["like", "aliases", "adjust", "options", "quantization", "opset_max", "kernels", "settings", "x"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_whatever_a_table_holds_it_is_taken_or_refused_with_a_remedy(table):
    refused = []
    try:
        check_table(table, "board.toml")
    except UsageError as error:
        refused.append((error.where, error.fix))
    assert all(where == "board.toml" and fix for where, fix in refused)
