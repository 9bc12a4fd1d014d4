"""Bad input through the command line: one clear error, the right exit code, nothing half-written, no traceback."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.cli.main import main

USAGE, BAD_INPUT = 2, 3
MUTATIONS = 200

GRAPH = "g (float[N,4] x) => (float[N,3] y) { h = MatMul (x, w) y = Relu (h) }"


def proto(text=GRAPH, opset=17):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}, "custom": 1]> {text}')
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return model


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(workplace):
    onnx.save(proto(), workplace / "m.onnx")
    return "m.onnx"


@pytest.fixture
def fails(workplace, capfd):
    """Run the command line; it must fail cleanly with this code and say these words."""

    def check(*words, code, says, files=()):
        before = everything(workplace)
        assert main([str(word) for word in words]) == code
        stderr = capfd.readouterr().err
        assert len(re.findall("^error:", stderr, re.MULTILINE)) == 1, stderr
        assert "Traceback" not in stderr
        assert "unexpected" not in stderr
        for word in [says] if isinstance(says, str) else says:
            assert word in stderr
        assert everything(workplace) == before
        return stderr

    return check


def everything(folder):
    return sorted(os.path.join(root, name) for root, folders, files in os.walk(folder) for name in (*folders, *files))


# -- files that are no models -------------------------------------------------------------------------------


def test_a_missing_model(fails):
    fails("absent.onnx", code=BAD_INPUT, says="no such model file")


def test_a_folder(fails, workplace):
    (workplace / "folder.onnx").mkdir()
    fails("folder.onnx", code=BAD_INPUT, says="is a folder")


@pytest.mark.parametrize(
    "content",
    [b"", b"just some words\n", b"\x08", b"\xff" * 1000, random.Random(0).randbytes(5000), b"PK\x03\x04" + b"\0" * 100],
    ids=["empty", "text", "truncated_key", "ones", "random", "zip"],
)
def test_a_file_of_something_else(fails, workplace, content):
    (workplace / "m.onnx").write_bytes(content)
    fails("m.onnx", code=BAD_INPUT, says="m.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_model(fails, workplace, share):
    content = proto().SerializeToString()
    (workplace / "m.onnx").write_bytes(content[: int(len(content) * share)])
    fails("m.onnx", code=BAD_INPUT, says="m.onnx")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_model_that_may_not_be_read(fails, workplace, model):
    (workplace / model).chmod(0)
    fails(model, code=BAD_INPUT, says="Permission denied")


# -- malformed graphs ---------------------------------------------------------------------------------------

MALFORMED = {
    "cycle": ("g (float[4] x) => (float[4] y) { a = Add (x, b) b = Relu (a) y = Neg (b) }", "cycle"),
    "undefined": ("g (float[4] x) => (float[4] y) { y = Add (x, nowhere) }", "nowhere"),
    "output": ("g (float[4] x) => (float[4] y) { z = Neg (x) }", "y"),
    "twice": ("g (float[4] x) => (float[4] y) { y = Neg (x) y = Relu (x) }", "'y'"),
    "inputs": ("g (float[4] x, float[4] x) => (float[4] y) { y = Neg (x) }", "'x'"),
    "domain": ("g (float[4] x) => (float[4] y) { y = stranger.Op (x) }", "stranger"),
    "standard": ("g (float[4] x) => (float[4] y) { y = Frobnicate (x) }", "Frobnicate"),
    "custom": ("g (float[4] x) => (float[4] y) { y = custom.Op (x) }", "Op"),
    "types": ("g (float[4] x, int64[4] i) => (float[4] y) { y = Add (x, i) }", "tensor("),
    "shapes": ("g (float[4] x, float[3] i) => (float[4] y) { y = Add (x, i) }", "m.onnx"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_graph(fails, workplace, case):
    text, word = MALFORMED[case]
    onnx.save(proto(text), workplace / "m.onnx")
    fails("m.onnx", code=BAD_INPUT, says=word)


def test_nothing_but_the_error_is_printed(workplace):
    """In a process of its own, where nobody has set up logging."""
    onnx.save(proto(MALFORMED["undefined"][0]), workplace / "m.onnx")
    done = subprocess.run([sys.executable, "-m", "graphpress", "m.onnx"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (BAD_INPUT, "")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "fix"]


def test_an_input_of_unknown_rank(workplace, capfd):
    """Nothing can be made up for it: what is done is done unseen, and the option that mends it is named."""
    wrong = proto()
    wrong.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(wrong, workplace / "m.onnx")
    assert main(["m.onnx"]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "the model runs on no made-up inputs" in said
    assert "--input-shape x=" in said


def test_an_operator_set_of_the_future(fails, workplace):
    onnx.save(proto(opset=999), workplace / "m.onnx")
    fails("m.onnx", code=BAD_INPUT, says="m.onnx")


def test_training_information(fails, workplace):
    wrong = proto()
    wrong.training_info.add()
    onnx.save(wrong, workplace / "m.onnx")
    fails("m.onnx", code=BAD_INPUT, says="training information")


# -- external data ------------------------------------------------------------------------------------------


@pytest.fixture
def external(workplace):
    """A model in a folder of its own, its weights in a file beside it."""
    (workplace / "inner").mkdir()
    path = workplace / "inner" / "m.onnx"
    onnx.save(proto(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def relocate(path, **entries):
    changed = onnx.load(path, load_external_data=False)
    for entry in changed.graph.initializer[0].external_data:
        entry.value = str(entries.get(entry.key, entry.value))
    path.write_bytes(changed.SerializeToString())


def test_missing_external_data(fails, external):
    (external.parent / "w.bin").unlink()
    fails(external, code=BAD_INPUT, says=["w.bin", "is missing"])


def test_short_external_data(fails, external):
    (external.parent / "w.bin").write_bytes(b"\0" * 10)
    fails(external, code=BAD_INPUT, says="shorter than the model declares")


IMPOSSIBLE = [{"offset": -8}, {"length": 4}, {"length": -1}, {"offset": 1 << 40}, {"length": 1 << 60}]
NONSENSE = [{"offset": "many"}, {"location": ""}, {"location": "a\0b"}, {"location": "x" * 5000}]


@pytest.mark.parametrize("entries", IMPOSSIBLE)
def test_impossible_places_in_external_data(fails, external, entries):
    relocate(external, **entries)
    fails(external, code=BAD_INPUT, says="w.bin")


@pytest.mark.parametrize("entries", NONSENSE)
def test_nonsense_in_external_data(fails, external, entries):
    relocate(external, **entries)
    fails(external, code=BAD_INPUT, says="m.onnx")


@pytest.mark.parametrize("how", ["parent", "absolute", "symbolic_link", "hard_link"])
def test_external_data_outside_the_folder(fails, external, how):
    secret = external.parent.parent / "secret.bin"
    (external.parent / "w.bin").rename(secret)
    if how == "symbolic_link":
        (external.parent / "w.bin").symlink_to(secret)
    elif how == "hard_link":
        (external.parent / "w.bin").hardlink_to(secret)
    else:
        relocate(external, location="../secret.bin" if how == "parent" else str(secret))
    fails(external, code=BAD_INPUT, says="outside the model's folder")


def test_a_symbolic_link_inside_the_folder_is_fine(external):
    (external.parent / "w.bin").rename(external.parent / "v.bin")
    (external.parent / "w.bin").symlink_to("v.bin")
    assert main([str(external), "--recipe", "cleanup", "--quiet", "--output", "fine"]) == 0


# -- data ---------------------------------------------------------------------------------------------------


DATA = {
    "rank": {"x": np.zeros((8, 4, 2), np.float32)},
    "shape": {"x": np.zeros((8, 5), np.float32)},
    "complex": {"x": np.full((8, 4), 1j, np.complex64)},
    "text": {"x": np.full((8, 4), "word")},
    "empty": {"x": np.zeros((0, 4), np.float32)},
    "labels": {"x": np.zeros((8, 4), np.float32), "labels": np.zeros(3, np.int64)},
    "nothing": {},
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_does_not_fit(fails, workplace, model, case):
    np.savez(workplace / "d.npz", **DATA[case])
    fails(model, "--data", "d.npz", "--output", "out", code=BAD_INPUT, says="d.npz")


def test_data_with_objects_is_not_unpickled(fails, workplace, model):
    np.savez(workplace / "d.npz", x=np.array([{"a": 1}] * 8, dtype=object))
    fails(model, "--data", "d.npz", "--output", "out", code=BAD_INPUT, says="d.npz")


def test_data_that_is_no_archive(fails, workplace, model):
    (workplace / "d.npz").write_bytes(b"no archive")
    fails(model, "--data", "d.npz", code=BAD_INPUT, says="d.npz")


def test_missing_data(fails, model):
    fails(model, "--data", "absent.yaml", code=BAD_INPUT, says="absent.yaml")


@pytest.mark.parametrize("text", ["", "- 1", "calibration: 3", "a: [", "evaluate: {}"])
def test_a_malformed_data_file(fails, workplace, model, text):
    (workplace / "d.yaml").write_text(text)
    fails(model, "--data", "d.yaml", code=BAD_INPUT, says="d.yaml")


def test_data_that_is_not_a_number_is_no_bug(workplace, model, capfd):
    np.savez(workplace / "d.npz", x=np.full((8, 4), np.nan, np.float32))
    code = main([model, "--data", "d.npz", "--output", "out", "--quiet"])
    stderr = capfd.readouterr().err
    assert code in (0, BAD_INPUT, 4)
    assert "unexpected" not in stderr
    assert "Traceback" not in stderr


# -- words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--target", "jetsonn"], USAGE, ["jetsonn"]),
        (["--target", "cpuu"], USAGE, ["did you mean 'cpu'"]),
        (["--passes", "fold_constant"], USAGE, ["did you mean 'fold_constants'"]),
        (["--passes", "fold_constants{"], USAGE, ["fold_constants{"]),
        (["--passes", "fold_constants{x=1}"], USAGE, ["fold_constants", "'x'"]),
        (["--recipe", "in8"], USAGE, ["did you mean 'int8'"]),
        (["--backend", "onnxruntim"], USAGE, ["did you mean 'onnxruntime'"]),
        (["--ouput", "x"], USAGE, ["did you mean '--output'"]),
        (["--max-drop", "lots"], USAGE, ["--max-drop"]),
        (["--exclude", "("], USAGE, ["--exclude"]),
        (["--input-shape", "x"], USAGE, ["--input-shape"]),
        (["--input-shape", "z=1x4"], USAGE, ["'z'"]),
        (["--input-shape", "x=1x5"], USAGE, ["contradicts"]),
        (["--metric", "top1"], USAGE, ["--data"]),
        (["--threads", "many"], USAGE, ["--threads"]),
        (["--recipe", "int8", "--passes", "fold_constants"], USAGE, ["--passes"]),
    ],
)
def test_wrong_words(fails, model, words, code, says):
    fails(model, *words, code=code, says=says)


def test_an_unknown_metric(fails, workplace, model):
    np.savez(workplace / "d.npz", x=np.zeros((8, 4), np.float32), labels=np.zeros(8, np.int64))
    fails(model, "--data", "d.npz", "--metric", "topp1", code=USAGE, says="did you mean 'top1'")


# -- where the result goes ----------------------------------------------------------------------------------


def test_an_output_folder_that_is_not_empty(fails, workplace, model):
    (workplace / "out").mkdir()
    (workplace / "out" / "precious.txt").write_text("keep")
    fails(model, "--output", "out", code=USAGE, says="--force")
    assert (workplace / "out" / "precious.txt").read_text() == "keep"


def test_an_output_that_is_a_file(fails, workplace, model):
    fails(model, "--output", model, code=USAGE, says="is a file")


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_an_output_folder_that_holds_the_model(fails, workplace, model, force):
    fails(model, "--output", ".", *force, code=USAGE, says="cannot be replaced")


@pytest.mark.parametrize("place", ["/proc/out", "/dev/null/out"])
def test_an_output_that_cannot_be_written(fails, model, place):
    fails(model, "--recipe", "cleanup", "--output", place, code=USAGE, says=place)


# -- the same in the other commands -------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["inspect"], ["bench"], ["compare", "m.onnx"]])
def test_the_other_commands_fail_the_same_way(fails, workplace, model, command):
    (workplace / "bad.onnx").write_bytes(b"bad")
    fails(*command, "bad.onnx", code=BAD_INPUT, says="bad.onnx")


# -- mutations ----------------------------------------------------------------------------------------------


def mutated(content, dice):
    """A few bytes changed, cut out, doubled or swapped."""
    changed = bytearray(content)
    for _ in range(dice.choice([1, 1, 2, 8])):
        start = dice.randrange(len(changed))
        end = min(len(changed), start + dice.choice([1, 2, 16]))
        change = dice.randrange(3)
        if change == 0:
            changed[start:end] = dice.randbytes(end - start)
        elif change == 1:
            del changed[start:end]
        else:
            changed[start:start] = changed[start:end]
    return bytes(changed)


def control_flow():
    from graphpress.ir import serialize
    from graphpress.models import build

    return serialize(build("control_flow"))


@pytest.mark.parametrize("seed", range(4))
def test_mutated_models_never_crash(workplace, capfd, seed):
    """Mutations of the structure: the weights are small, so that most hits are not in them."""
    dice = random.Random(seed)
    originals = [proto().SerializeToString(), control_flow()]
    for number in range(MUTATIONS // 4):
        (workplace / "m.onnx").write_bytes(mutated(originals[number % 2], dice))
        code = main(["m.onnx", "--recipe", "cleanup", "--quiet", "--force", "--output", "out", "--threads", "1"])
        stderr = capfd.readouterr().err
        note = f"mutation {number} of seed {seed}: {stderr}"
        assert code in (0, BAD_INPUT), note
        assert "Traceback" not in stderr, note
        assert "unexpected" not in stderr, note
        assert [name for name in os.listdir(workplace) if name.startswith(".")] == [], note
