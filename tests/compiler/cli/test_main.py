"""What the command line does with words: routing, exit codes, messages, streams."""

import json
import logging
import sys
from pathlib import Path

import pytest

from graphpress.cli.main import main
from graphpress.cli.summary import summary
from graphpress.driver.source import ModelFile
from graphpress.errors import BackendError, DataError, ModelError, UsageError
from graphpress.manager.records import PassRecord, RefusalRecord
from graphpress.report.records import from_json, to_json

DEFAULTS = {
    "target": "cpu", "backend": None, "data": None, "metric": None, "max_drop": "auto", "recipe": None, "passes": None,
    "output": None, "force": False, "allow_worse": False, "exclude": None, "input_shape": (), "input_range": (),
    "threads": None, "tuning": "rules", "weights": "beside", "seed": 0, "time_limit": None, "eval_limit": None,
    "verify": "final", "strict": False, "cache_dir": None, "allow_code": False, "custom_ops": (), "keep_docs": False,
}  # fmt: skip


def test_a_bare_model_runs_the_default_command_with_the_defaults(api):
    assert main(["m.onnx"]) == 0
    assert api.calls == [(ModelFile.at("m.onnx"), DEFAULTS)]


def test_options_may_come_before_the_model_and_all_reach_the_api(api):
    words = "--target jetson --backend tensorrt --data d.yaml --metric top5 --max-drop none --recipe int8"
    words += " --output out --force --allow-worse --exclude ^head --input-shape x=1x3x8x8 --input-shape y=2"
    words += " --input-range z=1x3:2x3:4x3 --threads 2 --tuning deep --weights inside --seed 7"
    words += " --time-limit 10m --eval-limit 100 --verify each --strict --cache-dir c --allow-code --keep-docs"
    words += " --custom-ops a.so --custom-ops b.so m.onnx"
    assert main(words.split()) == 0
    assert api.calls[0][1] == {
        "target": "jetson", "backend": "tensorrt", "data": "d.yaml", "metric": "top5", "max_drop": None,
        "recipe": "int8", "passes": None, "output": "out", "force": True, "allow_worse": True, "exclude": "^head",
        "input_shape": ("x=1x3x8x8", "y=2"), "input_range": ("z=1x3:2x3:4x3",), "threads": 2,
        "tuning": "deep", "weights": "inside", "seed": 7,
        "time_limit": 600.0, "eval_limit": 100, "verify": "each", "strict": True, "cache_dir": "c",
        "allow_code": True, "custom_ops": ("a.so", "b.so"), "keep_docs": True,
    }  # fmt: skip


def test_a_file_named_like_a_command_is_given_with_its_folder(api):
    assert main(["./inspect"]) == 0
    assert api.calls[0][0] == ModelFile.at("inspect")


@pytest.mark.parametrize(("status", "code"), [("delivered", 0), ("kept_original", 0), ("budget_not_met", 4)])
def test_the_outcome_decides_the_exit_code(api, status, code):
    api.status = status
    assert main(["m.onnx", "--quiet"]) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("wrong", where="--x", fix="right"), 2),
        (ModelError("wrong", where="m.onnx", fix="right"), 3),
        (DataError("wrong", where="d.yaml", fix="right"), 3),
        (BackendError("wrong", where="tvm", fix="right"), 5),
    ],
)
@pytest.mark.parametrize("mode", [[], ["--quiet"]])
def test_our_errors_are_one_message_on_stderr(api, capsys, error, code, mode):
    api.error = error
    assert main(["m.onnx", *mode]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.removeprefix("working …\n") == f"error: {error.where}: wrong\nfix: right\n"


def test_errors_as_json_are_one_object_on_stdout(api, capsys):
    api.error = ModelError("wrong", where="m.onnx", fix="right")
    assert main(["m.onnx", "--json"]) == 3
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {"error": {"what": "wrong", "where": "m.onnx", "fix": "right", "exit_code": 3}}


def test_usage_errors_as_json_too(capsys):
    assert main(["m.onnx", "--json", "--max-drop", "5"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


def test_the_unexpected_is_one_line_and_a_hint(api, capsys):
    api.error = ZeroDivisionError("division by zero\nsecond line")
    assert main(["m.onnx", "--quiet"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: unexpected ZeroDivisionError: division by zero\nfix: ")
    assert "--debug" in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(api, capsys):
    api.error = ZeroDivisionError("x")
    assert main(["m.onnx", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_path_that_cannot_be_written_is_named(api, capsys):
    api.error = PermissionError(13, "Permission denied", "/nowhere/out")
    assert main(["m.onnx", "--quiet"]) == 6
    assert capsys.readouterr().err.startswith("error: /nowhere/out: Permission denied\nfix: ")


@pytest.mark.parametrize("code", [0, None, 7, "bye"])
def test_code_that_ends_the_program_has_not_delivered(api, capsys, code):
    api.error = SystemExit(code)
    assert main(["m.onnx", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("error: code that the command runs ended it")


def test_interrupting_says_so_and_exits_130(api, capsys):
    api.error = KeyboardInterrupt()
    assert main(["m.onnx", "--quiet"]) == 130
    assert capsys.readouterr().err.strip() == "error: interrupted; nothing was written"


def test_an_interrupt_tells_what_was_kept(api, capsys):
    api.error = KeyboardInterrupt()
    api.error.add_note("the state of distill lies in out-checkpoint: the same command goes on from there")
    assert main(["m.onnx", "--quiet"]) == 130
    assert "nothing was written; the state of distill lies in out-checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m.onnx", "--taget", "cpu"], "did you mean '--target'?"),
        (["inspct"], "did you mean 'inspect'?"),
        (["inspct", "m.onnx"], "did you mean 'inspect'?"),
        (["targets", "cpuu"], "did you mean 'cpu'?"),
        (["targets", "cpuu"], "error: NAME: unknown target"),
        (["passes", "quantis"], "error: NAME: unknown pass 'quantis'"),
        (["bench", "m.onnx", "--backend", "onnxruntim"], "did you mean 'onnxruntime'?"),
        (["m.onnx", "--max-drop", "1.5"], "0.01 is one point"),
        (["m.onnx", "--max-drop", "1"], "was 0.01 meant, or 1%? `none` waives the limit"),
        (["m.onnx", "--max-drop", "150%"], "not a fraction between 0 and 1"),
        (["m.onnx", "--max-drop", "lots"], "neither a number nor 'none'"),
        (["m.onnx", "--max-drop", "nan"], "not a fraction"),
        (["m.onnx", "--time-limit", "soon"], "not a duration"),
        (["m.onnx", "--time-limit", "0"], "not a duration"),
        (["m.onnx", "--threads", "0"], "--threads"),
        (["m.onnx", "--threads", "abc"], "give a whole number, 1 or more"),
        (["bench", "m.onnx", "--seconds", "long"], "give a number from 0.1 to 600"),
        (["m.onnx", "--passes", ""], "'--passes': it is empty"),
        (["m.onnx", "--passes", " , "], "'--passes': it is empty"),
        (["m.onnx", "--data", " "], "'--data': it is empty"),
        (["m.onnx", "--input-shape", ""], "'--input-shape': it is empty"),
        (["compare", "a.onnx", "b.onnx", "--data", ""], "'--data': it is empty"),
        (["m.onnx", "--verify", "maybe"], "none"),
        (["m.onnx", "--recipe", "int8", "--passes", "a"], "exclude each other"),
        (["a.onnx", "b.onnx"], "b.onnx"),
        (["a.onnx", "--target", "jetsonjetpack=5.1", "jetsondla=on"], "put it in quotes: 'NAME{option=choice,…}'"),
        (["--target", "cpu"], "MODEL"),
        (["compare", "a.onnx"], "Missing argument"),
    ],
)
def test_wrong_usage_exits_2_and_helps(api, capsys, words, message):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "\nfix: " in err


def test_without_arguments_the_help_is_shown(capsys):
    assert main([]) == 2
    assert "Usage: optimize MODEL" in capsys.readouterr().err


def test_json_is_the_report_and_nothing_else(api, make_report, capsys):
    assert main(["m.onnx", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == to_json(make_report())
    assert from_json(out).status == "delivered"


def test_quiet_prints_nothing(api, capsys):
    assert main(["m.onnx", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_summary_tells_it_all_in_plain_text(api, capsys):
    assert main(["m.onnx"]) == 0
    out, err = capsys.readouterr()
    assert err == "working …\n"
    assert "\x1b" not in out
    for words in (
        "Delivered: the optimized model is 4.00x smaller and 2.00x faster.",
        "0.9100", "0.9080", "-0.20 points [-0.50, +0.10]", "1.00 MB",
        "top1 fell by 0.20 points on 5,000 samples, 95% interval of the drop -0.10 to +0.50",
        "at most 1.00 points allowed",
        "--allow-worse keeps what is slower or larger): fuse_swish",
        "rolled back: prune (top1 fell by 3.00 points)",
        "quantize at /head: no integer kernel – leave it",
        "out/model.onnx", "out/report.html",
    ):  # fmt: skip
        assert words in out


def test_what_the_never_worse_check_left_out_is_told_once(make_report):
    record = PassRecord(name="quantize", status="rolled_back", notes=("dropped: the result was slow",))
    text = summary(make_report(passes=(record,), dropped_for_worse=("prune+quantize: slow",)), Path("out"))
    assert "prune+quantize: slow" in text
    assert "rolled back" not in text


def test_a_pass_that_broke_has_a_line_of_its_own(make_report):
    record = PassRecord(name="fold_pad", status="rolled_back", failure="KeyError: 'w'")
    text = summary(make_report(passes=(record,)), Path("out"))
    assert "failed: fold_pad (KeyError: 'w'), a bug of that pass" in text
    assert "rolled back" not in text


def test_refusals_name_a_place_once(make_report):
    refusal = RefusalRecord(pass_name="fold_affine", where="mul_7", why="shared", fix="leave it")
    other = RefusalRecord(pass_name="fold_affine", where="mul_8", why="shared", fix="leave it")
    text = summary(make_report(refusals=(refusal, refusal, other, refusal)), Path("out"))
    assert "not done (2):\n  fold_affine at mul_7, fold_affine at mul_8: shared – leave it" in text


def test_a_missed_budget_says_what_to_try(api, capsys):
    api.status = "budget_not_met"
    assert main(["m.onnx"]) == 4
    out = capsys.readouterr().out
    assert "what to try: --max-drop 0.03 would take it, or distill behind prune wins" in " ".join(out.split())
    assert main(["m.onnx", "--quiet"]) == 4
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("accuracy budget not met; what to try: ")


def test_debug_shows_what_the_compiler_logs(api, capsys):
    real = api.run

    def run(*words):
        logging.getLogger("graphpress").debug("a pass broke")
        return real(*words)

    sys.modules["graphpress.driver.api"].run = run
    assert main(["m.onnx"]) == 0
    assert "a pass broke" not in capsys.readouterr().err
    assert main(["m.onnx", "--debug"]) == 0
    assert "a pass broke\n" in capsys.readouterr().err
    assert logging.getLogger("graphpress").handlers == []


@pytest.mark.parametrize("mode", [[], ["--json"]])
def test_a_full_disk_is_no_bug(api, capsys, mode):
    api.error = OSError(28, "No space left on device")
    assert main(["m.onnx", *mode]) == 6
    out, err = capsys.readouterr()
    assert "No space left on device" in out + err
    assert "bug" not in out + err


def test_names_from_a_model_cannot_steer_the_terminal(api, capsys):
    api.error = ModelError("bad", where="node '\x1b[2J'", fix="rename\x07")
    assert main(["m.onnx", "--quiet"]) == 3
    assert capsys.readouterr().err == "error: node '\\x1b[2J': bad\nfix: rename\\x07\n"


def test_what_the_users_code_prints_stays_out_of_the_json(api, capsys):
    api.chatter = "epoch 1\n"
    assert main(["m.onnx", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["status"] == "delivered"
    assert err == "epoch 1\n"
