"""Running an engine through the tool: what it is given, and how its answer is read."""

import numpy as np
import pytest

from graphpress.backends.tensorrt.bundle import commands
from graphpress.backends.tensorrt.device.run_engine import TOOLS, CannotRunError, EngineFile, layers, read_outputs, run


def test_numbers_that_are_not_finite_are_read(tmp_path):
    file = tmp_path / "outputs.json"
    file.write_text(
        '[\n { "name" : "inf nan"\n , "dimensions" : "1x4"\n , "values" : [ nan, -inf, inf, -nan ]\n }\n]\n'
    )
    found = read_outputs(file)["inf nan"]
    np.testing.assert_array_equal(found, [[np.nan, -np.inf, np.inf, np.nan]])


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """Let the tool answer with one number; returns the log of what it was given."""
    (tmp_path / "answer.json").write_text('[{"name": "y", "dimensions": "1", "values": [ 3 ]}]')
    monkeypatch.setenv("TRTEXEC_OUTPUT", str(tmp_path / "answer.json"))
    monkeypatch.setenv("TRTEXEC_LOG", str(tmp_path / "trtexec.log"))
    return tmp_path / "trtexec.log"


@pytest.mark.parametrize(("version", "size"), [("8.5.2", 4), ("10.3.0", 8), ("11.4.1.5", 8), ("1.7", 8)])
def test_old_versions_read_integers_of_32_bits(tool, answer, tmp_path, monkeypatch, version, size):
    monkeypatch.setenv("TRTEXEC_KEEPS", str(tmp_path / "kept.bin"))
    plan = EngineFile(tmp_path / "model.plan", [], version, "tensorrt_rtx" if version == "1.7" else "tensorrt")
    found = run(plan, [{"ids": np.arange(5, dtype=np.int64)}], str(tool("10.3")), "")
    np.testing.assert_array_equal(found[0]["y"], [3])
    assert (tmp_path / "kept.bin").stat().st_size == 5 * size


def test_names_with_colons_are_quoted(tool, answer, tmp_path):
    plan = EngineFile(tmp_path / "model.plan", ["x:0"], "10.3")
    run(plan, [{"x:0": np.zeros((2, 3), np.float32), "s": np.zeros((), np.float32)}], str(tool("10.3")), "")
    asked = answer.read_text()
    assert "--shapes='x:0':2x3 " in asked
    assert "--loadInputs='x:0':" in asked
    assert ",s:" in asked


def test_the_tool_that_built_it_is_known(tool, answer, tmp_path):
    assert run(EngineFile(tmp_path / "model.plan", [], "10.3"), [{}], "", str(tool("10.3"))) == [{"y": np.array([3])}]


def test_a_tool_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CannotRunError, match="/nowhere/trtexec cannot be run"):
        run(EngineFile(tmp_path / "model.plan", [], "10.3"), [{}], "/nowhere/trtexec", "")


def test_each_product_has_its_own_tool(tool, answer, tmp_path, monkeypatch):
    """Neither loads the other's engines."""
    assert {product: names[0] for product, names in TOOLS.items()} == commands.TOOLS
    monkeypatch.setenv("PATH", str(tool("10.3").parent), prepend=":")
    with pytest.raises(CannotRunError, match="no tensorrt_rtx; from Python: "):
        run(EngineFile(tmp_path / "model.plan", [], "1.7", "tensorrt_rtx"), [{}], "", "")


def test_where_neither_way_works_both_reasons_are_told(tool, answer, tmp_path, monkeypatch):
    monkeypatch.setenv("TRTEXEC_FAILS", "yes")
    with pytest.raises(CannotRunError, match=r"Engine could not be created from network; from Python: \w+"):
        run(EngineFile(tmp_path / "model.plan", [], "10.3"), [{}], "", str(tool("10.3")))


def test_an_engine_that_cannot_be_asked_is_said_to_be(tmp_path):
    with pytest.raises(CannotRunError, match=r"Error: \S"):
        layers(EngineFile(tmp_path / "none.plan", [], "10.3"))
