"""A pass asks its context what a change does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import graphpress
from graphpress.ir import clone
from graphpress.manager.contract import Outcome, Pass


@dataclass(frozen=True)
class Asks(Pass):
    """Changes nothing; notes what it could measure."""

    name: ClassVar[str] = "asks"
    lossless: ClassVar[bool] = False

    def run(self, model, context):
        if context.evaluation is None:
            return Outcome(notes=["nothing to measure on"])
        score = context.evaluation.metric(model)
        damage = context.evaluation.damage().damage(clone(model))
        return Outcome(notes=[f"{context.evaluation.split}: {score.value:.2f} of {score.count}, damage {damage:.2f}"])


def note_of(result):
    return next(record for record in result.report.passes if record.name == "asks").notes[0]


def test_a_pass_measures_on_what_it_may_choose_by(network_file, images, tmp_path):
    with_data = graphpress.optimize(network_file, data=images, passes=[Asks()], output=tmp_path / "a", threads=1)
    assert note_of(with_data).startswith("calibration: 1.00 of ")
    assert note_of(with_data).endswith("damage 0.00")
    without = graphpress.optimize(network_file, passes=[Asks()], output=tmp_path / "b", threads=1)
    assert note_of(without) == "nothing to measure on"
