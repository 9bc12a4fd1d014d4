"""Models that are small as files and endless in what they ask for: one clear error before any of it is made."""

import onnx
import onnx.parser
import pytest

from graphpress.cli.main import main
from graphpress.driver import first_run

BAD_INPUT = 3


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Optimize a model that is given as text; the exit code, and what stderr said."""
    monkeypatch.chdir(tmp_path)

    def optimize(text, functions="", *words):
        imports = '<ir_version: 8, opset_import: ["": 18, "own": 1]>'
        onnx.save(onnx.parser.parse_model(f"{imports} {text} {functions}"), "m.onnx")
        code = main(["m.onnx", "--recipe", "cleanup", "--quiet", *words])
        assert [path.name for path in tmp_path.iterdir() if path.name != "m-cpu"] == ["m.onnx"]
        return code, capfd.readouterr().err

    return optimize


TOO_LARGE = {
    "an input": "g (float[100000,1000000,1000] x) => (float[100000,1000000,1000] y) { y = Neg (x) }",
    "a fill": """g (float[1] x) => (float[M,N] y)
        <int64[2] size = {100000000, 1000000}> { a = ConstantOfShape (size) y = Add (a, x) }""",
    "an expansion": "g (float[1] x) => (float[M,N] y) <int64[2] size = {100000000, 1000000}> { y = Expand (x, size) }",
    "repetition": "g (float[10] x) => (float[N] y) <int64[1] times = {10000000000000}> { y = Tile (x, times) }",
    "a frame": "g (float[10] x) => (float[N] y) <int64[2] pads = {0, 100000000000000}> { y = Pad (x, pads) }",
    "an outer product": """g (float[10000000,1] x, float[1,10000000] z) => (float y)
        { a = MatMul (x, z) y = ReduceMax <keepdims = 0> (a) }""",
    "what open axes only add to": """g (float[N,100000,1000000] x) => (float[N,100000,1000000] y)
        { a = Neg (x) y = Add (a, x) }""",
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_model_that_cannot_fit_is_refused_with_the_figure(run, name):
    code, err = run(TOO_LARGE[name])
    assert code == BAD_INPUT
    assert err.startswith("error: m.onnx: running it takes at least ")
    assert " GB of memory for what it computes, and " in err


def test_what_fits_by_a_hair_is_not_refused(run, monkeypatch):
    """Two vectors of 4,000 bytes at a time, one more feed, and two answers to compare with."""
    text = "g (float[1000] x) => (float[1000] y) { a = Neg (x) b = Neg (a) y = Abs (b) }"
    monkeypatch.setattr(first_run, "available_memory", lambda: 20_000)
    assert run(text)[0] == 0
    monkeypatch.setattr(first_run, "available_memory", lambda: 19_999)
    assert run(text, "", "--output", "other")[0] == BAD_INPUT


def test_a_system_that_does_not_tell_its_memory_refuses_nothing(run, monkeypatch):
    monkeypatch.setattr(first_run, "available_memory", lambda: None)
    assert run("g (float[4] x) => (float[4] y) { y = Neg (x) }")[0] == 0


# -- functions that are written out -----------------------------------------------------------------------------


def doubling(levels):
    inner = [
        f'<domain: "own", opset_import: ["": 18, "own": 1]> f{level} (a) => (b) '
        f"{{ t = own.f{level + 1} (a) b = own.f{level + 1} (t) }}"
        for level in range(levels)
    ]
    return "\n".join([*inner, f'<domain: "own", opset_import: ["": 18]> f{levels} (a) => (b) {{ b = Neg (a) }}'])


CALL = "g (float[4] x) => (float[4] y) { y = own.f0 (x) }"


def test_functions_that_double_at_every_level_are_counted_not_written_out(run):
    code, err = run(CALL, doubling(60))
    assert code == BAD_INPUT
    assert f"written out, are {2**60:,} nodes" in err


def test_functions_of_an_ordinary_size_run(run):
    assert run(CALL, doubling(4))[0] == 0


@pytest.mark.parametrize("body", ["b = own.f0 (a)", "c = Neg (a) d = own.f1 (c) b = Neg (d)"])
def test_functions_that_call_themselves(run, body):
    functions = f'<domain: "own", opset_import: ["": 18, "own": 1]> f0 (a) => (b) {{ {body} }}\n'
    functions += '<domain: "own", opset_import: ["": 18, "own": 1]> f1 (a) => (b) { b = own.f0 (a) }'
    code, err = run(CALL, functions)
    assert code == BAD_INPUT
    assert "calls itself" in err


# -- time -------------------------------------------------------------------------------------------------------

ENDLESS = {
    "Loop": """g (float[4] x) => (float[4] y) <int64 rounds = {4611686018427387904}, bool go = {1}> {
        y = Loop (rounds, go, x) <body = b (int64 i, bool c, float[4] s) => (bool d, float[4] t)
            { d = Identity (c) t = Neg (s) }>
    }""",
    "Loop within Loop": """g (float[4] x) => (float[4] y) <int64 rounds = {4611686018427387904}, bool go = {1}> {
        y = Loop (rounds, go, x) <body = b (int64 i, bool c, float[4] s) => (bool d, float[4] t) {
            d = Identity (c)
            t = Loop (rounds, c, s) <body = e (int64 j, bool f, float[4] u) => (bool h, float[4] v)
                { h = Identity (f) v = Neg (u) }>
        }>
    }""",
    "Scan": """g (float[1] x) => (float[1] y) <int64[2] size = {200000000, 1}> {
        many = ConstantOfShape (size)
        y = Scan <num_scan_inputs = 1, body = b (float[1] s, float[1] a) => (float[1] t) { t = Add (s, a) }> (x, many)
    }""",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_model_that_does_not_come_to_an_end(run, monkeypatch, name):
    monkeypatch.setattr(first_run, "MOST_SECONDS", 0.5)
    code, err = run(ENDLESS[name])
    assert code == BAD_INPUT
    assert err.startswith("error: m.onnx: gave no answer within 0.5 s\nfix: ")
    assert "--time-limit with more than 0.5 s" in err


def test_the_time_limit_of_the_run_is_granted(run, monkeypatch):
    monkeypatch.setattr(first_run, "FEWEST_SECONDS", 0.1)
    assert "within 0.3 s" in run(ENDLESS["Loop"], "", "--time-limit", "0.3")[1]
    assert "within 0.1 s" in run(ENDLESS["Loop"], "", "--time-limit", "0.01")[1]
