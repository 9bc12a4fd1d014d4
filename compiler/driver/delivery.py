"""From the states that passed to the folder on disk: model, report, page and manifest, in place in one rename."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from graphpress.analysis.cost import LayerCost, ModelCost, model_cost, roofline_seconds
from graphpress.analysis.linear import channels_of
from graphpress.analysis.shapes import shapes_after
from graphpress.driver.advice import advice
from graphpress.driver.baseline import unrun
from graphpress.driver.choice import Choice, choose
from graphpress.driver.doubts import doubts
from graphpress.driver.gaps import gaps
from graphpress.driver.job import Job
from graphpress.driver.kernel_table import kernel_records, node_seconds
from graphpress.driver.layer_errors import layer_errors
from graphpress.driver.output import Claim
from graphpress.driver.provenance import provenance
from graphpress.driver.replay import RECORDS, changed_outputs, recorded_options, remade_decisions
from graphpress.driver.requests import unmet_requests
from graphpress.evaluation import Score
from graphpress.ir import Refusal, check_data_names, count_nodes, graphs
from graphpress.ir.encoding import compute_requests
from graphpress.ir.garbage import paused_collection
from graphpress.manager.gate import speed_verdict
from graphpress.manager.manifest import MANIFEST_FILE, Manifest, file_records, write_manifest
from graphpress.manager.records import PassRecord, RefusalRecord
from graphpress.manager.run import Checkpoint, Run
from graphpress.progress import doing
from graphpress.report import sentences
from graphpress.report.html import write_html
from graphpress.report.records import Figures, LayerRecord, Report, Status, to_json
from graphpress.runtime import stand_by, undisturbed_latency
from graphpress.runtime.environment import environment


def deliver(job: Job, run: Run, began: float, claim: Claim) -> tuple[Report, tuple[Path, ...]]:
    """Choose, measure, write.

    Args:
        job: the run.
        run: what the manager made of it.
        began: ``time.perf_counter`` at the start of the whole.
        claim: of the output folder.

    Returns:
        The report, and the files that were written.
    """
    job.inputs.watch.check()
    with claim.staged([*job.config.inputs, *job.inputs.files]) as folder, doing("delivering"):
        scratch = folder / ".candidates"
        scratch.mkdir()
        choice = choose(job, run, scratch)
        size = choice.artifact.bytes
        _move(choice.artifact.files, folder)
        shutil.rmtree(scratch)
        report = _report(job, run, choice, size)
        changed = changed_outputs(job.config.recipe.manifest, folder)
        report = replace(report, changed_outputs=changed, seconds=time.perf_counter() - began)
        (folder / "report.json").write_text(to_json(report), encoding="utf-8")
        write_html(report, folder / "report.html")
        write_manifest(_manifest(job, folder), folder / MANIFEST_FILE)
        job.inputs.watch.check()
        names = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return report, tuple(job.config.output / name for name in names)


def _move(files: Sequence[Path], folder: Path) -> None:
    """Move files, the model first, keeping the folders between them.

    Raises:
        ModelError: one is called like a record of the run.
    """
    root = files[0].parent
    check_data_names((file.relative_to(root) for file in files), RECORDS)
    for file in files:
        place = folder / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, place)


# -- the report -------------------------------------------------------------------------------------------


@paused_collection()
def _report(job: Job, run: Run, choice: Choice, size: int) -> Report:
    baseline_score = job.final_baseline
    candidate = choice.candidate
    before = model_cost(job.inputs.original, job.inputs.original_shapes)
    after = before if candidate is None else _cost(candidate.checkpoint)
    timing = None if choice.comparison is None else choice.comparison.timing
    latency = _baseline_latency(job) if timing is None else timing.a_ms
    result_latency = _result_latency(choice, latency)
    original_nodes = count_nodes(job.inputs.original)
    records = _records(run, choice)
    layers, layer_notes = _layers(job, run, choice, after)
    result_nodes = original_nodes if candidate is None else count_nodes(candidate.prepared.delivered)
    return Report(
        model=job.inputs.file.name,
        target=job.config.target.canonical_name,
        backend=choice.backend,
        status=_status(run, choice),
        baseline=_figures(before, baseline_score, latency, job.inputs.original_bytes, original_nodes),
        result=_figures(after, choice.score, result_latency, size, result_nodes),
        metric_name=None if job.inputs.metric is None else job.inputs.metric.name,
        threads=job.config.threads,
        passes=tuple(records),
        refusals=(*_import_refusals(job), *run.refusals(), *_backend_refusals(choice)),
        layers=tuple(layers),
        kernels=tuple(kernel_records(choice.kernels, after)),
        memory=dict(choice.findings.memory),
        usage=choice.findings.usage,
        verdict=job.verdict(choice.score),
        speed=None if timing is None else speed_verdict(timing),
        backends=choice.backends,
        modelled_ms=_modelled_ms(job, after),
        modelled_baseline_ms=_modelled_ms(job, before),
        dropped_for_worse=_dropped(choice, "worse"),
        dropped_for_fault=_dropped(choice, "wrong", "budget"),
        notes=(
            *_notes(job),
            *_docs_notes(job, choice),
            *_latency_notes(job, choice),
            *choice.findings.notes,
            *layer_notes,
        ),
        failures=tuple(sentences.failures(records)),
        not_done=tuple(unmet_requests(job.config, run, records, _judged(run, choice))),
        warnings=(*gaps(job), *doubts(job)),
        unrun=tuple(unrun(job.inputs.opaque)),
        advice=tuple(advice(job, run, choice, records)),
        unverified=tuple(choice.findings.unverified),
        seed=job.config.options.seed,
        provenance=provenance(job.config, job.inputs),
        environment=environment(),
    )


def _cost(checkpoint: Checkpoint) -> ModelCost:
    return model_cost(checkpoint.model, shapes_after(checkpoint.model, checkpoint.shapes))


def _status(run: Run, choice: Choice) -> Status:
    if run.missed or any(state.cause == "budget" for state in choice.dropped):
        return "budget_not_met"
    return "kept_original" if choice.is_input_model else "delivered"


def _judged(run: Run, choice: Choice) -> list[str]:
    """Transactions that were done, and given up for what they cost."""
    given_up = (*choice.dropped, *choice.left_out)
    return [*run.missed, *(state.name for state in given_up if state.cause != "wrong")]


def _dropped(choice: Choice, *causes: str) -> tuple[str, ...]:
    given_up = (*choice.dropped, *choice.left_out)
    return tuple(f"{state.name}: {state.why}" for state in given_up if state.cause in causes)


def _baseline_latency(job: Job) -> float | None:
    """Latency of the input model when nothing was compared with it; None where it cannot be measured here."""
    if not job.runs_here or not job.inputs.runs:
        return None
    latency = undisturbed_latency(lambda: job.inputs.session.run(job.inputs.single))
    stand_by(job.inputs.session)
    return latency


def _result_latency(choice: Choice, baseline: float | None) -> float | None:
    """Latency in the place that the artifact runs in; of the input model delivered as it is, that of the baseline."""
    if choice.place:
        return choice.latency_ms
    timing = None if choice.comparison is None else choice.comparison.timing
    return baseline if timing is None else timing.b_ms


def _figures(cost: ModelCost, score: Score | None, latency: float | None, size: int, nodes: int) -> Figures:
    return Figures(
        metric=None if score is None else score.value,
        latency_ms=latency,
        parameters=cost.parameters,
        macs=cost.macs,
        bytes=size,
        nodes=nodes,
    )


def _records(run: Run, choice: Choice) -> list[PassRecord]:
    """The passes' records; those that the never-worse gate gave up, with the clean-up behind them, are rolled back."""
    accepted = dict.fromkeys(
        pass_run.transaction
        for pass_run in run.pass_runs
        if pass_run.transaction is not None and pass_run.status == "applied" and pass_run.changes
    )
    given_up = dict(zip([*reversed(accepted), None], (state.why for state in choice.dropped), strict=False))
    why = given_up.get(None)  # the clean-up before the first transaction
    records = []
    for pass_run, record in zip(run.pass_runs, run.records(), strict=True):
        if pass_run.transaction is not None:
            why = given_up.get(pass_run.transaction, why)
        if record.status == "applied" and pass_run.changes and why is not None:
            record = replace(record, status="rolled_back", notes=(*record.notes, f"dropped: the result was {why}"))
        records.append(record)
    return records


def _import_refusals(job: Job) -> list[RefusalRecord]:
    return [_refusal("import", refusal) for refusal in job.inputs.left]


def _backend_refusals(choice: Choice) -> list[RefusalRecord]:
    return [_refusal(choice.backend, refusal) for refusal in choice.findings.refusals]


def _refusal(source: str, refusal: Refusal) -> RefusalRecord:
    return RefusalRecord(pass_name=source, where=refusal.where, why=refusal.why, fix=refusal.fix)


def _layers(job: Job, run: Run, choice: Choice, cost: ModelCost) -> tuple[list[LayerRecord], list[str]]:
    """Every node that multiplies or was asked for something: what it was asked for and what it became; and notes."""
    result = None if choice.candidate is None else choice.candidate.checkpoint.model
    asked = {} if result is None else compute_requests(result)
    layers = [layer for layer in cost.layers if layer.macs or layer.name in asked]
    errors = layer_errors(job, run, choice, {layer.name for layer in layers}, cost.macs)
    before = channels_of(job.inputs.model)
    after = before if result is None else channels_of(result)
    seconds = {**node_seconds(choice.kernels), **choice.node_seconds}
    records = [
        LayerRecord(
            name=layer.name,
            op=layer.op,
            macs=layer.macs,
            asked=asked.get(layer.name, layer.arithmetic),
            became=_became(choice, layer, layer.name in asked),
            seconds=seconds.get(layer.name),
            sqnr=errors.sqnr.get(layer.name),
            channels_before=before.get(layer.name) if layer.name in after else None,
            channels=after.get(layer.name) if layer.name in before else None,
        )
        for layer in layers
    ]
    return records, [errors.note] if errors.note else []


def _became(choice: Choice, layer: LayerCost, asked: bool) -> str | None:
    """What a node became: what the backend found; a node that vanished into another is fused; None when unknown."""
    became = choice.findings.became
    if not became:
        return None if asked else layer.arithmetic
    return became.get(layer.name, "fused" if asked else layer.arithmetic)


def _modelled_ms(job: Job, cost: ModelCost) -> float | None:
    seconds = None if job.runs_here else roofline_seconds(cost, job.config.target)
    return None if seconds is None else 1e3 * seconds


def _notes(job: Job) -> list[str]:
    notes = list(job.inputs.data.notes)
    if job.final_baseline is not None and job.final_baseline.note:
        notes.append(job.final_baseline.note)
    if job.inputs.metric is None:
        notes.append("no data was given: the metric was not measured")
    if remade := remade_decisions(job.config.recipe.manifest, job.context.decisions):
        notes.append(f"recorded decisions that did not fit were made anew: {', '.join(remade)}")
    if job.config.cache.fault:
        notes.append(job.config.cache.fault)
    nodes = (node for graph in graphs(job.inputs.model) for node in graph)
    if job.context.exclude and not any(map(job.context.matches_exclude, nodes)):
        notes.append(f"--exclude {job.context.exclude.pattern!r} matches no node")
    return notes


def _docs_notes(job: Job, choice: Choice) -> list[str]:
    """That what is delivered is without the words of the exporter; the input model as it is has them."""
    if choice.candidate is None or not job.inputs.docs:
        return []
    dropped = sentences.size(job.inputs.docs)
    return [f"doc strings and notes of the exporter were left out ({dropped}; --keep-docs keeps them)"]


def _latency_notes(job: Job, choice: Choice) -> list[str]:
    """Where latency was measured, if that is not the usual place."""
    if choice.place and choice.latency_ms is None:
        return [f"the result was run on {choice.place}, which says nothing of latency: it was not measured"]
    if choice.place:
        return [f"latency was measured on {choice.place}; that of the input model was not measured there"]
    return [] if job.runs_here else ["the target is not this machine: latency was not measured"]


# -- the manifest -----------------------------------------------------------------------------------------


def _manifest(job: Job, folder: Path) -> Manifest:
    return Manifest(
        recipe=job.config.recipe.text(),
        target=job.config.target.canonical_name,
        target_digest=job.config.target.digest,
        backend=job.config.backend_name,
        seed=job.config.options.seed,
        threads=job.config.threads,
        options=recorded_options(job.config.options),
        decisions=job.context.decisions,
        inputs=job.inputs.records,
        outputs=file_records(folder.iterdir(), folder),
        data=dict(job.inputs.fingerprints),
    )
