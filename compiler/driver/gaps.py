"""What of a model with opaque operators was not verified, and which option would verify it."""

from __future__ import annotations

from collections.abc import Iterator

from graphpress.driver.baseline import unrun
from graphpress.driver.job import Job
from graphpress.errors import listed
from graphpress.ir.opaque import opaque_nodes
from graphpress.runtime.custom_ops import OPTION
from graphpress.runtime.partial import NOTHING

ON_THE_DEVICE = "verify.py checks the model on its device"


def gaps(job: Job) -> Iterator[str]:
    """A sentence, for the warnings of the report, on what nothing here could run."""
    inputs = job.inputs
    if not inputs.opaque:
        return
    ways = f"{OPTION} LIB with the library that has them verifies the whole"
    if not job.config.target.this_machine:
        ways = f"{ways}, and {ON_THE_DEVICE}"
    yield f"nothing here can run {listed(unrun(inputs.opaque))}: {_compared(job)}, no latency was measured. {ways}"


def _compared(job: Job) -> str:
    """What was compared with the input model all the same."""
    inputs = job.inputs
    opaque = set(opaque_nodes(inputs.original))
    bare = {value.name for value in inputs.original.graph.outputs if value.producer() in opaque}
    answers = inputs.probe.expected[0] if inputs.runs_in_part and job.config.options.verify != "none" else {}
    known = [name for name in answers if name in inputs.session.output_names and name != NOTHING]
    made_up = [name for name in answers if name not in {*known, *bare, NOTHING}]
    parts = [f"{listed(names)} on {kind} numbers" for names, kind in ((known, "true"), (made_up, "made-up")) if names]
    if not parts:
        return "only the structure of the result was checked, no numbers were compared"
    return f"compared with the input model: {', '.join(parts)}"
