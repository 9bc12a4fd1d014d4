import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.errors import UsageError
from graphpress.manager.records import PassRecord
from graphpress.plain import plain
from graphpress.report.records import Figures, Report, from_json, to_json

FIXED_KEYS = {
    "schema_version", "model", "target", "backend", "status", "baseline", "result", "metric_name", "threads",
    "passes", "refusals", "layers",
}  # fmt: skip


def test_the_fixed_keys_are_there(full_report):
    table = json.loads(to_json(full_report))
    assert next(iter(table)) == "schema_version"
    assert table.keys() >= FIXED_KEYS
    for side in ("baseline", "result"):
        assert table[side].keys() >= {"metric", "latency_ms", "parameters", "macs", "bytes", "nodes"}
    assert table["passes"][0].keys() >= {"name", "seconds", "verify_seconds", "status", "metric", "notes"}
    assert table["refusals"][0].keys() == {"pass", "where", "why", "fix"}
    assert table["layers"][0].keys() >= {"name", "op", "macs", "asked", "became"}


@pytest.mark.parametrize("which", ["full_report", "compiled_report", "bare_report"])
def test_reads_back_what_was_written(which, request):
    report = request.getfixturevalue(which)
    assert from_json(to_json(report)) == report
    assert to_json(from_json(to_json(report))) == to_json(report)


def test_what_was_not_measured_is_null(bare_report):
    table = json.loads(to_json(bare_report))
    assert set(table["baseline"].values()) == {None}
    assert table["metric_name"] is None
    assert table["verdict"] is None


@given(st.floats())
def test_floats_that_are_not_finite_become_null(value):
    text = to_json(Report(model="m", target="t", backend="b", status="delivered", baseline=Figures(metric=value)))
    metric = json.loads(text, parse_constant=lambda word: pytest.fail(word))["baseline"]["metric"]
    assert metric == (value if np.isfinite(value) else None)


def test_numpy_values_become_plain_ones():
    record = PassRecord(
        name="p", status="applied", metric=np.float32(0.5), changes=np.int64(3), options={"a": np.arange(2)}
    )
    assert plain(record)["metric"] == 0.5
    assert plain(record)["changes"] == 3
    assert plain(record)["options"] == {"a": [0, 1]}
    assert plain(np.float64("nan")) is None


def test_unknown_keys_are_ignored(bare_report):
    table = json.loads(to_json(bare_report)) | {"later": 1}
    assert from_json(json.dumps(table)) == bare_report


def test_tuples_and_lists_are_the_same_report(full_report):
    assert to_json(replace(full_report, passes=list(full_report.passes))) == to_json(full_report)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "schema version None"),
        ('{"schema_version": 9}', "schema version 9"),
        ('{"schema_version": 1}', "malformed report"),
        ('{"schema_version": 1, "passes": 3}', "malformed report"),
        ('{"schema_version": 1, "passes": [3]}', "malformed report"),
    ],
)
def test_bad_reports_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        from_json(text)


def test_the_records_need_neither_numpy_nor_onnx():
    code = (
        "import sys, graphpress.report; print([m for m in ('numpy', 'onnx', 'onnx_ir', 'jinja2') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
