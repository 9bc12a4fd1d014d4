"""The page: what it says, that it is self-contained and safe, and that a real browser agrees."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from graphpress.manager.records import DecomposedLayer, PassRecord
from graphpress.report import sentences
from graphpress.report.decomposed import decomposed_summary
from graphpress.report.html import plotted, render_html, tiles, timeline, write_html
from graphpress.report.records import DataRecord, LayerRecord, Provenance, from_json, to_json

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-extensions", "--hide-scrollbars",
    "--enable-logging=stderr",
]  # fmt: skip
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium here: apt-get install chromium")

SORT_AND_TELL = """
<script>
const heads = [...document.querySelectorAll("#layer-table th")], macs = heads.find(head => head.textContent === "MACs");
macs.querySelector("button").click();
const up = [...document.querySelectorAll("#layer-table tbody tr")].map(row => Number(row.cells[3].dataset.v));
macs.querySelector("button").click();
const down = [...document.querySelectorAll("#layer-table tbody tr")].map(row => Number(row.cells[3].dataset.v));
const sorted = up.every((v, i) => !i || up[i - 1] <= v) && down.every((v, i) => !i || down[i - 1] >= v);
document.body.dataset.sorted = sorted + " " + up.length + " " + macs.getAttribute("aria-sort");
</script>
"""


MEASURE = """
<iframe id="narrow" style="width: 390px; height: 3000px; border: 0"></iframe>
<script>
const frame = document.getElementById("narrow");
frame.onload = () => {
  const page = frame.contentDocument, wide = [];
  for (const part of page.querySelectorAll("main, main *")) {
    const box = part.getBoundingClientRect();
    if (box.width && (box.right > 390.5 || box.left < -0.5)) wide.push(part.tagName + "." + part.className);
  }
  const hidden = [...page.querySelectorAll(".scroll")].filter(part => part.scrollWidth > part.clientWidth + 1);
  document.body.dataset.narrow = `${page.defaultView.innerWidth} ${wide.length + hidden.length} ${wide.slice(0, 9)}`;
};
frame.srcdoc = SOURCE;
</script>
"""

LINK_ROWS = """
<script>
for (const [at, row] of document.querySelectorAll("#layer-table tbody tr").entries())
  row.cells[1].innerHTML = `<a href="https://row/${at}/">${at}</a>`;
</script>
"""


def browse(page, profile, *flags):
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def console(stderr):
    return [line for line in stderr.splitlines() if "CONSOLE" in line]


@needs_browser
def test_a_real_browser_shows_it_without_errors(full_report, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(render_html(full_report) + SORT_AND_TELL, encoding="utf-8")
    done = browse(page, tmp_path / "profile", "--dump-dom")
    assert console(done.stderr) == []
    assert 'data-sorted="true 12 descending"' in done.stdout
    assert "<title>net.onnx on cpu · graphpress</title>" in done.stdout
    for text in ("Delivered", "3.50x smaller and 2.01x faster", "rolled back", "another reader", "one &amp; only"):
        assert text in done.stdout


@needs_browser
@pytest.mark.parametrize("flags", [(), ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")])
def test_it_paints(full_report, tmp_path, flags):
    from PIL import Image

    page, picture = tmp_path / "report.html", tmp_path / "page.png"
    write_html(full_report, page)
    browse(page, tmp_path / "profile", "--window-size=1100,1800", f"--screenshot={picture}", *flags)
    with Image.open(picture) as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50


@needs_browser
def test_nothing_is_cut_off_on_a_narrow_screen(long_report, tmp_path):
    source = json.dumps(render_html(long_report)).replace("</", "<\\/")
    page = tmp_path / "narrow.html"
    page.write_text(f"<!doctype html><body>{MEASURE.replace('SOURCE', source)}", encoding="utf-8")
    done = browse(page, tmp_path / "profile", "--dump-dom", "--virtual-time-budget=5000")
    assert re.search(r'data-narrow="([^"]*)"', done.stdout)[1].strip() == "390 0"


@needs_browser
def test_every_row_is_on_paper(long_report, tmp_path):
    """A link in each row is an annotation of the PDF where the row is painted."""
    page, paper = tmp_path / "report.html", tmp_path / "report.pdf"
    page.write_text(render_html(long_report) + LINK_ROWS, encoding="utf-8")
    browse(page, tmp_path / "profile", f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    rows = set(re.findall(rb"https://row/([0-9]+)/", paper.read_bytes()))
    assert len(rows) == len(long_report.layers)


@needs_browser
def test_the_console_check_sees_errors(full_report, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(render_html(full_report) + "<script>nonesuch()</script>", encoding="utf-8")
    assert console(browse(page, tmp_path / "profile", "--dump-dom").stderr)


@pytest.mark.parametrize("which", ["full_report", "compiled_report", "bare_report"])
def test_it_is_well_formed_and_refers_to_nothing_outside(which, request):
    page = render_html(request.getfixturevalue(which))
    assert not re.search(r"""(?:src|href)=["'](?!data:,)|url\(|@import|https?://""", page)
    assert unbalanced(page) == []


def test_names_from_the_model_are_text_never_markup(full_report):
    page = render_html(full_report)
    assert "<script>document.title" not in page
    assert "&lt;script&gt;document.title" in page
    assert "<b>head</b>" not in page


def test_everything_is_shown(full_report):
    page = render_html(full_report)
    expected = (
        "0.9100",
        "0.9080",
        "fuse_swish",
        "calibrated on 512 samples",
        "percentile = 99.99",
        "touches a graph output",
    )
    assert [text for text in expected if text not in page] == []


def test_accuracy_stands_at_the_head(full_report):
    assert [row.label for row in tiles(full_report)] == ["top1", "latency", "file size", "parameters", "MACs"]
    assert "0.9080</div>" in render_html(full_report)
    assert next(row.label for row in tiles(replace(full_report, metric_name=None))) == "latency"


def test_passes_that_changed_nothing_are_folded_away(full_report):
    page = render_html(full_report)
    folded = re.search(r'<details id="idle">.*?</details>', page, re.DOTALL)[0]
    assert "1 pass found nothing to change" in folded
    assert "fold_constants" in folded
    assert "<b>fold_constants</b>" not in page


def test_what_was_rolled_back_stands_under_what_was_not_done(full_report):
    """With its reason, and by how many points the metric moved."""
    passes = (
        PassRecord(name="prune", status="rolled_back", transaction=1),
        PassRecord(name="distill", status="rolled_back", transaction=1, metric=0.8, notes=("the metric fell",)),
        PassRecord(name="quantize", status="rolled_back", transaction=2, metric=0.91),
        PassRecord(name="fuse_gelu", status="rolled_back", failure="KeyError: 'w'"),
    )
    report = replace(full_report, passes=passes, dropped_for_worse=("quantize: 1.2 times as slow",))
    rows = sentences.undone(report)
    assert [(row.name, row.points) for row in rows] == [
        ("prune+distill", "-11.00 points"),
        ("quantize", "+0.00 points"),
        ("fuse_gelu", ""),
    ]
    assert "the metric fell" in rows[0].why
    assert "--max-drop" in rows[0].fix
    assert "--allow-worse" in rows[1].fix
    assert "KeyError" in rows[2].why
    table = re.search(r'<table class="stacks" id="undone">.*?</table>', render_html(report), re.DOTALL)[0]
    assert all(row.name in table for row in rows)


def test_channels_before_and_after_are_shown_where_they_differ(full_report):
    assert "channels</button>" not in render_html(full_report)
    layers = (
        LayerRecord(name="a", op="Conv", channels_before=64, channels=40),
        LayerRecord(name="b", op="Conv", channels_before=10, channels=10),
        LayerRecord(name="c", op="Add"),
    )
    page = render_html(replace(full_report, layers=layers))
    assert "channels</button>" in page
    assert "64 → 40" in page
    assert [sentences.channels(layer) for layer in layers] == ["64 → 40", "10", sentences.UNKNOWN]


def test_layers_of_low_rank_have_a_table_of_their_own(full_report):
    assert 'id="decomposed"' not in render_html(full_report)
    layers = [
        DecomposedLayer(
            name=name, op="Conv", form="tucker", ranks=(8, 12), full_ranks=(64, 96), energy=0.97, error=error,
            macs_before=1000, macs=400, parameters_before=5000, parameters=1000,
            seconds_before=seconds, seconds=seconds,
        )
        for name, error, seconds in (("<first>", 0.031, 0.002), ("last", 0.254, None))
    ]  # fmt: skip
    record = PassRecord(name="lowrank", status="applied", changes=2, decomposed=tuple(layers))
    report = replace(full_report, passes=(record,))
    page = render_html(report)
    table = re.search(r'<table[^>]* id="decomposed-table">.*?</table>', page, re.DOTALL)[0]
    for text in ("&lt;first&gt;", "8×12 of 64×96", "97.0%", "3.1%", "25.4%", "1,000 → 400", "2 ms → 2 ms"):
        assert text in table, text
    assert from_json(to_json(report)) == report
    summary = decomposed_summary(report)
    assert "2 layers of low rank, 40% of the multiply-accumulates" in summary
    assert "last has the largest error, 25.4%" in summary
    dropped = replace(report, passes=(replace(record, status="rolled_back"),))
    assert 'id="decomposed"' not in render_html(dropped)
    assert decomposed_summary(dropped) == ""


def test_where_the_figures_come_from_is_told(full_report, bare_report):
    data = DataRecord(part="evaluation", source="images.yaml", samples=500, sha256="cafe" * 16)
    origin = Provenance(
        command="optimize net.onnx --max-drop none",
        date="2026-01-02T03:04:05+00:00",
        model_sha256="f00d" * 16,
        data=(data,),
    )
    page = render_html(replace(full_report, provenance=origin))
    for text in (
        "optimize net.onnx --max-drop none",
        "2026-01-02",
        "f00d" * 16,
        "500 samples of images.yaml",
        "cafe" * 16,
    ):
        assert text in page
    assert unbalanced(page) == []
    assert 'id="provenance"' not in render_html(bare_report)


def test_a_bare_report_names_what_is_missing(bare_report):
    page = render_html(bare_report)
    for text in ("Kept the original", "No data was given", "No pass ran", "Nothing was refused", "No layers"):
        assert text in page


def test_a_missed_budget_lists_what_to_try(full_report):
    page = render_html(replace(full_report, status="budget_not_met", advice=("--max-drop 0.03 would take it",)))
    assert "<li>--max-drop 0.03 would take it</li>" in page
    assert unbalanced(page) == []


def test_a_pass_that_broke_is_no_rollback(full_report):
    broke = PassRecord(name="p", status="rolled_back", failure="KeyError: 'w'")
    page = render_html(replace(full_report, passes=(broke,)))
    assert "a bug of that pass" in page
    assert ">rolled back<" not in page
    assert unbalanced(page) == []


def test_a_refusal_is_listed_once(full_report):
    page = render_html(replace(full_report, refusals=full_report.refusals * 3))
    assert page.count("touches a graph output") == 1


def test_columns_that_were_not_measured_are_left_out(full_report):
    assert "SQNR" in render_html(full_report)
    bare = tuple(replace(layer, sqnr=None, seconds=None) for layer in full_report.layers)
    page = render_html(replace(full_report, layers=bare))
    assert "SQNR" not in page
    assert unbalanced(page) == []


def test_the_layer_with_the_largest_error_is_named(full_report):
    rated = [replace(layer, sqnr=30.0 + at) for at, layer in enumerate(full_report.layers)]
    rated[1] = replace(rated[1], sqnr=12.34)
    page = render_html(replace(full_report, layers=tuple(rated)))
    assert f"The least is 12.3 dB, of <code>{rated[1].name}</code>" in page


def test_kernels_and_backends_are_shown_where_there_are_some(compiled_report, full_report):
    page, without = render_html(compiled_report), render_html(full_report)
    assert {'id="kernels"', 'id="backends"'} & set(re.findall(r'id="\w+"', without)) == set()
    table = page[page.index('id="kernel-table"') : page.index('id="refusals"')]
    assert "56x56x64, 3x3 → 56x56x64" in table
    assert "20.0" in table  # 4e6 multiply-accumulates in 0.2 ms, in units of 1e9 a second
    assert "50 %" in table
    assert "One call takes 0.5 ms on one thread" in page
    assert "needs 1.50 MB of memory: 500.00 kB of weights" in page
    assert "0.450 to 0.550" in page
    assert "not compiled by other: node /s: Slice has no kernels" in page


def test_the_time_line_adds_up(full_report):
    bars = timeline(full_report.passes)
    assert [bar.start for bar in bars] == pytest.approx([0, 100 * 0.1 / 8.6, 100 * 5.6 / 8.6])
    assert bars[-1].start + bars[-1].own + bars[-1].verify + bars[-1].measure == pytest.approx(100)
    assert timeline([PassRecord(name="p", status="applied")])[0].own == 0


def test_a_large_model_plots_its_heaviest_layers_in_order():
    layers = [LayerRecord(name=str(at), op="Conv", macs=at % 7) for at in range(1000)]
    chosen = plotted(layers, 50)
    assert len(chosen) == 50
    assert {layer.macs for layer in chosen} == {6}
    assert [int(layer.name) for layer in chosen] == sorted(int(layer.name) for layer in chosen)


class Tags(HTMLParser):
    VOID = ("meta", "link", "br")

    def __init__(self):
        super().__init__()
        self.open, self.faults = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append((tag, self.getpos()))


def unbalanced(page):
    tags = Tags()
    tags.feed(page)
    return tags.faults + tags.open
