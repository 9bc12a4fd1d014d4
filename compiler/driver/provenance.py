"""Where the figures of a report come from: the command, the day, the model's hash and the data.

The report is the one place that tells of a single run; the model and its manifest are the same for the same inputs.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from graphpress.driver.config import RunConfig
from graphpress.driver.inputs import RunInputs
from graphpress.driver.options import Options
from graphpress.report.records import DataRecord, Provenance
from graphpress.targets.load import target_text

NOT_SHOWN = ("output", "force", "model")
"""Where the result goes says nothing of how it is made."""
IN_MEMORY = "(in memory)"


def provenance(config: RunConfig, inputs: RunInputs) -> Provenance:
    """The provenance of a run that is being reported."""
    return Provenance(
        command=command_line(inputs.file.name, config),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        model_sha256=inputs.records[0].sha256,
        data=tuple(_data(config.options, inputs)),
    )


def command_line(model: str, config: RunConfig) -> str:
    """The words of the command line that ask for the same; what has no words there is said to be in memory."""
    default, words = Options(), ["optimize", model]
    for item in fields(Options):
        value, usual = getattr(config.options, item.name), getattr(default, item.name)
        differs = value is not None if usual is None else value != usual  # data may be an array
        if item.name not in NOT_SHOWN and differs:
            words += _words(f"--{item.name.replace('_', '-')}", value, config)
    return shlex.join(words)


def _words(option: str, value: object, config: RunConfig) -> list[str]:
    if value is True:
        return [option]
    if option == "--passes" and not isinstance(value, str):
        return [option, config.recipe.text()]
    if option == "--target":
        return [option, target_text(config.options.target)]
    if option in ("--input-shape", "--input-range") and isinstance(value, (list, tuple)):
        return [word for item in value for word in (option, str(item))]
    return [option, _text(value)]


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    return str(value) if isinstance(value, (str, int, float, os.PathLike)) else IN_MEMORY


def _data(options: Options, inputs: RunInputs) -> Iterator[DataRecord]:
    source = _text(options.data)
    for part, digest in inputs.fingerprints.items():
        samples = getattr(inputs.data, part)
        yield DataRecord(part=part, source=source, samples=samples.count, sha256=digest)
