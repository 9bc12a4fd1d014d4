"""The folder for a board: its programs run in an emulator here as they run there, and say what is not right."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import graph

from graphpress.backend import CompileOptions, OffersRunner
from graphpress.backends.tvm.backend import TvmBackend
from graphpress.backends.tvm.board import bundle
from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.emulator import find_emulator
from graphpress.errors import ModelError
from graphpress.runtime import Session
from graphpress.targets import load_target

ARM = "aarch64-linux-gnu"
NETWORK = """(float[n,3,9,9] x) => (float[n,20] y, float[n,20,7,7] z) {
    c = Conv(x, w, b)
    z = Relu(c)
    p = GlobalAveragePool(z)
    y = Flatten(p)
}"""

pytestmark = pytest.mark.skipif(
    shutil.which(f"{ARM}-gcc") is None or find_emulator(ISAS["neon"]) is None,
    reason="needs gcc-aarch64-linux-gnu and qemu-user",
)


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((20, 3, 3, 3)), "b": rng.standard_normal(20)}
    return graph(NETWORK, **{name: array.astype(np.float32) for name, array in weights.items()})


@pytest.fixture(scope="module")
def feed():
    return {"x": np.random.default_rng(1).standard_normal((3, 3, 9, 9)).astype(np.float32)}


@pytest.fixture(scope="module")
def board(model, feed, tmp_path_factory):
    """A folder for a Raspberry Pi 5, and its artifact."""
    folder = tmp_path_factory.mktemp("board")
    options = CompileOptions(load_target("raspberrypi5"), threads=2, samples=[feed], name="My Net")
    backend = TvmBackend()
    return folder, backend.compile(backend.prepare(model, options.target), options, folder)


@pytest.fixture
def copy(board, tmp_path):
    """The folder, to change something in it."""
    return shutil.copytree(board[0], tmp_path / "copy")


def run(program, *words, isa="neon-dotprod") -> subprocess.CompletedProcess:
    """Run a program on the processor of an instruction set."""
    emulator = find_emulator(ISAS[isa])
    command = [emulator.program, "-cpu", emulator.processor, program, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_artifact_runs_in_the_emulator_and_is_not_timed(board, model, feed):
    artifact = board[1]
    assert isinstance(artifact, OffersRunner)
    assert "cortex-a76" in artifact.runner.place
    for images in (1, 3, 2):
        some = {"x": feed["x"][:images]}
        for name, expected in Session(model).run(some).items():
            np.testing.assert_allclose(artifact.run(some)[name], expected, rtol=1e-5, atol=1e-5)
    assert len(artifact.runner.measure([feed], seconds=1)) == 0
    artifact.renew()
    np.testing.assert_allclose(artifact.run(feed)["y"], Session(model).run(feed)["y"], rtol=1e-5, atol=1e-5)


def test_everything_written_is_listed_and_said(board):
    folder, artifact = board
    written = {file for file in folder.rglob("*") if file.is_file()}
    assert {file.resolve() for file in artifact.files} == {file.resolve() for file in written}
    page = (folder / "README.md").read_text()
    for name in {file.relative_to(folder).parts[0] for file in written} - {"README.md"}:
        assert f"`{name}`" in page
    assert all(word in page for word in ("raspberrypi5", "cortex-a76", "neon-dotprod", "./verify", "./bench"))
    assert any("ONNX Runtime" in note and "cortex-a76" in note for note in artifact.findings().notes)


def test_open_sizes_go_with_the_samples(tmp_path):
    """Rows attend to each other, in samples of two lengths."""
    model = graph(
        "(float[N, S, 6] x) => (float[N, S, 6] y) "
        "{ t = Transpose<perm = [0, 2, 1]>(x) s = MatMul(x, t) p = Softmax(s) y = MatMul(p, x) }"
    )
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((1, length, 6)).astype(np.float32)} for length in (7, 12)]
    options, backend = CompileOptions(load_target("raspberrypi5"), samples=feeds), TvmBackend()
    artifact = backend.compile(backend.prepare(model, options.target), options, tmp_path)
    for feed in feeds:
        np.testing.assert_allclose(artifact.run(feed)["y"], Session(model).run(feed)["y"], rtol=1e-5, atol=1e-5)
    done = run(tmp_path / "verify")
    assert done.returncode == 0, done.stderr
    assert "passed: 2 samples" in done.stdout
    assert (tmp_path / "golden" / "1" / "sizes.bin").read_bytes() == np.int32(12).tobytes()


def test_verify_passes_what_is_right(board):
    done = run(board[0] / "verify", "2")
    assert done.returncode == 0, done.stderr
    assert "y: right" in done.stdout
    assert "z: right" in done.stdout
    assert "passed: 3 samples" in done.stdout


def test_verify_finds_outputs_that_are_wrong(copy):
    output = copy / "golden" / "1" / "output-0.bin"
    array = np.fromfile(output, np.float32)
    array[3] += 1e-3 * np.abs(array).max()
    array.tofile(output)
    done = run(copy / "verify")
    assert done.returncode == 1
    assert "y: WRONG" in done.stdout
    assert "z: right" in done.stdout
    array[3] = np.nan
    array.tofile(output)
    assert run(copy / "verify").returncode == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("weights.bin", b"short", "weights"),
        ("golden/0/input-0.bin", b"short", "another size"),
        ("golden/2/output-1.bin", None, "is missing"),
        ("golden/0/input-0.bin", None, "no samples"),
    ],
)
def test_verify_says_what_keeps_it_from_computing(name, content, said, copy):
    (copy / name).unlink() if content is None else (copy / name).write_bytes(content)
    done = run(copy / "verify")
    assert done.returncode == 2
    assert said in done.stderr


def test_a_processor_without_the_instructions_is_told_which(board):
    done = run(board[0] / "verify", isa="neon")
    assert done.returncode == 2
    assert "asimddp" in done.stderr


def test_bench_prints_the_median(board):
    done = run(board[0] / "bench", "2", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("median ")
    assert "2 threads" in done.stdout
    assert run(board[0] / "bench", "none").returncode == 2


def test_the_sources_compile_without_a_warning(board, tmp_path):
    folder, warnings = board[0], ["-Wall", "-Wextra", "-Werror", "-std=gnu11"]
    for name in ("verify", "bench"):
        command = [f"{ARM}-gcc", "-O2", *warnings, "-pthread", f"-I{folder}", "-o", tmp_path / name]
        subprocess.run([*command, folder / "board" / f"{name}.c", folder / "libmodel.a", "-lm"], check=True)


def outputs(*numbers: float) -> list[dict[str, np.ndarray]]:
    """What a model gave for each of some samples; a class beside it."""
    return [{"y": np.array([1.0, number]), "class": np.array(round(number))} for number in numbers]


def test_a_library_that_computes_something_else_is_not_delivered():
    right = outputs(1, 2)
    assert bundle._checked(right, right, bundle._bound(right, right)) == 0
    assert bundle._checked(outputs(1e-5, 2e-7), outputs(1e-5, 1e-7), bundle.NEAR) == 0
    nothing = [{**sample, "y": np.full(2, np.nan)} for sample in right]
    for wrong in (outputs(1, 2.2), nothing):
        with pytest.raises(ModelError, match="away from those of the model"):
            bundle._checked(wrong, right, bundle._bound(right, right))


def test_what_compression_moves_may_move_once_more():
    floats, quantized = outputs(1, 2), outputs(1, 2.2)
    assert bundle._checked(outputs(1, 2.4), quantized, bundle._bound(quantized, floats)) > bundle.NEAR
    assert bundle._bound(quantized, outputs(9, 9)) == bundle.FAR


def test_without_an_emulator_golden_outputs_are_those_of_onnx_runtime(model, feed, tmp_path, monkeypatch):
    monkeypatch.setattr("graphpress.backends.tvm.board.served.find_emulator", lambda isa: None)
    options, backend = CompileOptions(load_target("raspberrypi4"), samples=[feed]), TvmBackend()
    artifact = backend.compile(backend.prepare(model, options.target), options, tmp_path)
    assert not isinstance(artifact, OffersRunner)
    assert "qemu" in artifact.findings().notes[0]
    expected = Session(model).run({"x": feed["x"][:1]})["y"]
    np.testing.assert_allclose(np.fromfile(tmp_path / "golden/0/output-0.bin", np.float32), expected[0], rtol=1e-6)
    assert "at most 0.01" in run(tmp_path / "verify", isa="neon").stdout
