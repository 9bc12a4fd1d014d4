from dataclasses import replace

import pytest

from graphpress.manager.records import TIME_IS_UP, PassRecord, RefusalRecord, SpeedVerdict, Verdict
from graphpress.report import sentences
from graphpress.report.records import Figures, LayerRecord

EVEN = SpeedVerdict(ratio=1.001, low=0.99, high=1.01)


def test_a_delivered_model_names_its_gains(full_report):
    assert sentences.title(full_report) == "Delivered"
    assert sentences.outcome(full_report) == "the optimized model is 3.50x smaller and 2.01x faster"


def test_a_pass_that_was_asked_for_and_did_nothing_says_why_in_the_headline(full_report):
    record = PassRecord(name="quantize_weights", status="refused", transaction=1)
    refusal = RefusalRecord(pass_name="quantize_weights", where="quantize_weights", why="int4 weights need opset 21")
    report = replace(full_report, passes=(record,), refusals=(refusal,))
    for status in ("delivered", "kept_original"):
        text = sentences.outcome(replace(report, status=status))
        assert text.endswith("; quantize_weights refused: int4 weights need opset 21")


@pytest.mark.parametrize("status", ["delivered", "kept_original", "budget_not_met"])
def test_passes_that_came_too_late_are_counted_in_the_headline(full_report, status):
    names = ("cse", "quantize")
    records = tuple(PassRecord(name=name, status="refused", transaction=1) for name in names)
    late = tuple(RefusalRecord(pass_name=name, where=name, why=TIME_IS_UP) for name in names)
    text = sentences.outcome(replace(full_report, status=status, passes=records, refusals=late))
    assert text.startswith("the time limit left no time for 2 passes; ")
    assert "refused" not in text


@pytest.mark.parametrize(
    ("became", "ending"),
    [
        (["weight-only", "weight-only", "float16", "float16"], "faster"),
        (["weight-only", "float16", "float16", "float16"], "; weight-only in only 1 of 4 products"),
        (["float16", "float16", "float16", "float16"], "; weight-only in only 0 of 4 products"),
        ([None, "fused", "float16", "float16"], "faster"),
    ],
)
def test_that_most_products_stay_in_floats_stands_in_the_headline(full_report, became, ending):
    asked = ["weight-only", "weight-only", "float16", "float16"]
    layers = tuple(
        LayerRecord(name=str(index), op="MatMul", macs=1, asked=ask, became=became[index])
        for index, ask in enumerate(asked)
    )
    views = (LayerRecord(name="view", op="Reshape", macs=0, asked="float16", became="float16"),) * 9
    assert sentences.outcome(replace(full_report, layers=layers + views)).endswith(ending)


def test_what_a_rival_gains_stands_in_the_headline(compiled_report):
    assert "compiled by tvm (2.00x faster than in onnxruntime)" in sentences.outcome(compiled_report)


def test_fewer_nodes_are_a_gain_where_nothing_else_is(full_report):
    same = replace(full_report.baseline, nodes=76)
    even = replace(full_report, result=same, speed=EVEN)
    assert sentences.outcome(even) == "the optimized model has 2.00x fewer nodes"
    assert sentences.outcome(replace(even, result=full_report.baseline)).endswith("is neither smaller nor faster")


def test_precisions_are_those_of_the_result_and_none_of_the_input_model(full_report):
    assert sentences.precision_summary(full_report) == "asked for int8 12, became int8 11, float32 1"
    assert sentences.precision_summary(replace(full_report, result=full_report.baseline)) == ""


def test_a_slowdown_stands_in_the_headline(full_report):
    slow = replace(full_report, speed=SpeedVerdict(ratio=1.03, low=1.02, high=1.04))
    assert sentences.outcome(slow) == "the optimized model is 3.50x smaller and 1.03x slower"
    larger = replace(full_report, result=replace(full_report.result, bytes=2 * 1092218))
    assert sentences.outcome(larger) == "the optimized model is 2.00x larger and 2.01x faster"


@pytest.mark.parametrize(
    ("speed", "change", "better"),
    [
        (SpeedVerdict(ratio=1.013, low=1.004, high=1.021), "1.01x slower", False),
        (SpeedVerdict(ratio=1.013, low=0.998, high=1.021), "about the same", None),
        (SpeedVerdict(ratio=0.997, low=0.996, high=0.998), "about the same", None),
        (SpeedVerdict(ratio=0.5, low=0.4, high=0.6), "2.00x faster", True),
        (None, "2.02x faster", True),
    ],
)
def test_the_change_of_latency_is_the_paired_ratio(full_report, speed, change, better):
    row = next(row for row in sentences.comparison(replace(full_report, speed=speed)) if row.label == "latency")
    assert (row.change, row.better) == (change, better)


@pytest.mark.parametrize(
    ("speed", "ending"),
    [
        (SpeedVerdict(ratio=0.5, low=0.4, high=0.6), "threads)"),
        (EVEN, "; within the tolerance of never slower: a lower bound of at most 1.03"),
        (
            SpeedVerdict(ratio=1.2, low=1.1, high=1.3),
            "; beyond the tolerance of never slower: a lower bound of at most 1.03",
        ),
    ],
)
def test_what_never_slower_means_is_explained_where_it_matters(full_report, speed, ending):
    assert sentences.speed(replace(full_report, speed=speed)).endswith(ending)


def test_no_drop_at_all_is_stated_plainly(full_report):
    verdict = Verdict(drop=0.0, low=-0.0004, high=0.0004, samples=9, max_drop=0.01)
    same = replace(full_report, result=full_report.baseline, verdict=verdict)
    assert sentences.budget(same).startswith("top1 is the same on 9 samples, 95% interval of the drop -0.04 to +0.04")
    assert sentences.comparison(same)[0].change == "same"
    assert sentences.signed(-0.00001) == "+0.00"


def test_a_kept_original_says_what_model_onnx_is(bare_report):
    assert sentences.outcome(bare_report) == "nothing better was found: model.onnx is the input model"


def test_what_the_never_worse_check_left_out_of_what_was_asked_for_stands_in_the_first_line(full_report):
    worse = ("prune: 1.20 times as slow (at least 1.10)", "clean-up: larger (9 bytes against 8) and not faster")
    text = sentences.outcome(replace(full_report, dropped_for_worse=worse))
    assert text.endswith("; left out prune: 1.20 times as slow (at least 1.10)")


@pytest.mark.parametrize("status", ["delivered", "kept_original", "budget_not_met"])
def test_what_was_dropped_for_a_fault_stands_in_the_first_line(full_report, status):
    faults = ("prune: not what the input model computes (output 'y' is 5)", "clean-up: nothing that runs")
    text = sentences.outcome(replace(full_report, status=status, dropped_for_fault=faults))
    assert text.endswith("".join(f"; dropped {fault}" for fault in faults))


def test_a_missed_budget_says_what_model_onnx_is(full_report):
    text = sentences.outcome(replace(full_report, status="budget_not_met"))
    assert "cost more accuracy than allowed" in text
    assert "best model inside the budget: it is 3.50x smaller" in text


def test_a_missed_budget_that_leaves_the_input_model_says_so(full_report):
    verdict = Verdict(drop=0.0, low=-0.02, high=0.02, samples=9, max_drop=0.01)
    kept = replace(full_report, status="budget_not_met", result=full_report.baseline, speed=None, verdict=verdict)
    assert sentences.outcome(kept).endswith("the best model inside the budget: it is the input model")
    assert "reaches beyond" not in sentences.budget(kept)


def test_figures_that_got_worse_say_so(full_report):
    worse = replace(full_report.result, latency_ms=2.46, bytes=1092218, nodes=304)
    slower = replace(full_report, result=worse, speed=SpeedVerdict(ratio=2, low=1.9, high=2.1))
    rows = {row.label: row for row in sentences.comparison(slower)}
    assert (rows["latency"].change, rows["latency"].better) == ("2.00x slower", False)
    assert (rows["file size"].change, rows["file size"].better) == ("same", None)
    assert (rows["nodes"].change, rows["nodes"].better) == ("2.00x more", None)


def test_a_difference_inside_the_noise_is_neither_better_nor_worse(full_report):
    row = sentences.comparison(full_report)[0]
    assert (row.change, row.better) == ("-0.20 points [-0.49, +0.11]", None)
    certain = replace(full_report, verdict=Verdict(drop=0.002, low=0.001, high=0.003))
    assert sentences.comparison(certain)[0].better is False


def test_a_latency_that_nobody_measured_has_no_row(bare_report):
    assert "latency" not in {row.label for row in sentences.comparison(bare_report)}


def test_unknown_figures_are_dashes(bare_report):
    assert {(row.before, row.after, row.change) for row in sentences.comparison(bare_report)} == {("–", "–", "")}


def test_a_modelled_latency_is_never_shown_as_measured(full_report):
    labels = {row.label: row for row in sentences.comparison(full_report)}
    assert labels["least time on cpu, modelled"].after == "0.2 ms"
    assert labels["latency"].after == "0.61 ms"


def test_the_ratio_of_two_modelled_bounds_is_no_speed_up(full_report):
    rows = {row.label: row for row in sentences.comparison(replace(full_report, modelled_baseline_ms=0.5))}
    modelled = rows["least time on cpu, modelled"]
    assert (modelled.before, modelled.after, modelled.change) == ("0.5 ms", "0.2 ms", "")


def test_the_budget_as_a_sentence(full_report, bare_report):
    assert sentences.budget(bare_report) == ""
    assert sentences.budget(full_report) == (
        "top1 fell by 0.20 points on 10,000 samples, "
        "95% interval of the drop -0.11 to +0.49; at most 1.00 points allowed"
    )
    rose = replace(full_report, verdict=Verdict(drop=-0.001, low=None, high=None, max_drop=None))
    assert sentences.budget(rose) == "top1 rose by 0.10 points; no limit"


@pytest.mark.parametrize(
    ("verdict", "doubt"),
    [
        (
            Verdict(drop=0.005, low=-0.01, high=0.02, samples=200, max_drop=0.01),
            ": 200 samples cannot tell 1.00 points",
        ),
        (Verdict(drop=0.0, low=-1.0, high=1.0, samples=1, max_drop=0.005), ": 1 sample cannot tell 0.50 points"),
        (Verdict(drop=0.005, low=-0.01, high=0.02, max_drop=0.01), ""),
    ],
)
def test_a_budget_that_the_samples_cannot_resolve_is_reported(full_report, verdict, doubt):
    text = sentences.budget(replace(full_report, verdict=verdict))
    assert text.endswith(f" allowed; the interval reaches beyond the budget{doubt}")
    assert "1 samples" not in text


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(drop=0.002, low=-0.001, high=0.005, samples=9, max_drop=0.01),
        Verdict(drop=0.05, low=0.04, high=0.06, samples=9, max_drop=0.01),
        Verdict(drop=0.05, low=0.04, high=0.06, samples=9, max_drop=None),
        Verdict(drop=0.05, low=None, high=None, samples=9, max_drop=0.01),
    ],
)
def test_a_budget_that_is_clear_is_not_doubted(full_report, verdict):
    assert "reaches beyond" not in sentences.budget(replace(full_report, verdict=verdict))


def test_what_was_left_out_says_how_to_keep_it(full_report, bare_report):
    assert "lower bound is above 1.03; --allow-worse keeps" in sentences.dropped(full_report)
    assert sentences.dropped(full_report).endswith(": fuse_swish")
    assert sentences.dropped(bare_report) == ""


def test_a_pass_that_broke_is_distinguished_from_one_that_was_rolled_back(full_report):
    broke = PassRecord(name="p", status="rolled_back", failure="KeyError: 'w'\nand more")
    missed = PassRecord(name="q", status="rolled_back", notes=("top1 fell",))
    (failure,) = sentences.failures([broke, missed])
    assert failure == "the pass p failed: KeyError: 'w'; its changes were dropped"
    assert sentences.outcome(replace(full_report, failures=(failure,))).startswith(f"{failure}; the optimized model")
    assert "failed" not in sentences.outcome(full_report)


def test_a_long_failure_is_cut():
    (failure,) = sentences.failures([PassRecord(name="p", status="rolled_back", failure="ValueError: " + 999 * "x")])
    assert len(failure) < 300
    assert "…" in failure


def test_a_zero_figure_is_shown_without_a_ratio(full_report):
    emptied = replace(full_report, result=Figures(bytes=10, nodes=0))
    rows = {row.label: row for row in sentences.comparison(emptied)}
    assert (rows["nodes"].after, rows["nodes"].change) == ("0", "")


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (sentences.size, 999, "999 B"), (sentences.size, 1092218, "1.09 MB"), (sentences.size, 3.2e9, "3.20 GB"),
        (sentences.count, 9999, "9,999"), (sentences.count, 40551424, "40.55 M"), (sentences.count, None, "–"),
        (sentences.milliseconds, 0.01234, "0.0123 ms"), (sentences.milliseconds, 12345.6, "12,346 ms"),
        (sentences.seconds, None, "–"), (sentences.fraction, 0.91, "0.9100"), (sentences.times, 1.5, "1.50x"),
        (sentences.times, 120.0, "120x"),
    ],
)  # fmt: skip
def test_figures_are_formatted(form, value, text):
    assert form(value) == text
