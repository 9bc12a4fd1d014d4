"""Ranks for a speed-up: each choice is timed as the chain that it becomes, and the whole model decides.

Measured here: a layer and its efficient choices run alone, each different one once; what the rest of the model takes is
the time of the whole less that of its layers. The budget is corrected until the decomposed model, timed in turn with
the whole one, is as fast as asked. For another target a chain takes what the roofline says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from graphpress.allocation import Goal, LatencyBench, match_ratio
from graphpress.allocation.node_model import can_run_alone, node_model
from graphpress.allocation.speedup import is_near_enough, latency_ratio, nearest
from graphpress.analysis.cost import layer_roofline, model_cost
from graphpress.analysis.linear import LinearOp, linear_op_of
from graphpress.analysis.views import view_of
from graphpress.errors import UsageError
from graphpress.ir import Dims, Editor, Model, Node, Refusal, digest, label
from graphpress.manager.contract import Context
from graphpress.passes._probe import probe_feed
from graphpress.passes.lowrank._allocate import LayerChoices, allocate
from graphpress.passes.lowrank._chain import ChainCost
from graphpress.passes.lowrank._errors import RankChoice, efficient
from graphpress.passes.lowrank._form import ChainStage
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank._problems import problem_of
from graphpress.passes.lowrank._sensitivity import LayerChain, with_chains
from graphpress.passes.lowrank._write import write_chain
from graphpress.runtime import Session, undisturbed_latency

TIMED = 8
"""Choices of a layer that are timed, at most."""

Seconds = Callable[[Model], float]
"""The time of a model of one layer."""


@dataclass(frozen=True)
class SpeedPlanner:
    """Chooses ranks for a speed-up.

    Args:
        model: not changed.
        layers: with what they may become.
        shapes: static, by value name.
        context: target, threads, data and cache.
    """

    model: Model
    layers: Mapping[Node, LayerChoices]
    shapes: Mapping[str, Dims]
    context: Context

    def choose(self, goal: Goal) -> tuple[dict[Node, RankChoice], list[Refusal], str]:
        """Choices, what of the goal is missing, and a sentence for the report.

        Raises:
            UsageError: a target that states no rates to model it with.
        """
        return self._measured(goal) if self.context.target.this_machine else self._modelled(goal)

    def _modelled(self, goal: Goal) -> tuple[dict[Node, RankChoice], list[Refusal], str]:
        roofline = layer_roofline(self.context.target)
        if roofline is None:
            raise UsageError(
                f"no speed-up can be modelled for {self.context.target.name}: it states no peak rate or no bandwidth",
                where=goal.where,
                fix="ask for macs_kept instead, or state peak_gmacs and bandwidth_gbs in the target's file",
            )

        def seconds(model: Model) -> float:
            return sum(map(roofline, model_cost(model).layers))

        priced = self._priced(seconds)
        best, shortfall = allocate(priced, goal, seconds(self.model))
        kept = seconds(self._outlined(best)) / seconds(self.model)
        note = f"{goal.describe(kept)} as modelled for {self.context.target.name}, not measured"
        return best, [] if shortfall is None else [shortfall], note

    def _measured(self, goal: Goal) -> tuple[dict[Node, RankChoice], list[Refusal], str]:
        feed = probe_feed(self.model, self.context)
        session = Session(self.model, threads=self.context.threads)
        whole = undisturbed_latency(lambda: session.run(feed)) / 1e3
        bench = LatencyBench(self.context.threads, self.context.cache)
        priced = self._priced(lambda model: bench.seconds(digest(model), lambda: model))

        nodes = {label(node.outputs[0]): node for node in priced}

        def choices_for(budget: float) -> tuple[dict[str, RankChoice], bool]:
            best, shortfall = allocate(priced, Goal("speedup", 1 / budget, goal.where), whole)
            return {label(node.outputs[0]): choice for node, choice in best.items()}, shortfall is None

        def measure(choices: dict[str, RankChoice]) -> float:
            changed = self._outlined({nodes[name]: choice for name, choice in choices.items()})
            return latency_ratio(session, changed, feed, self.context.threads) if choices else 1.0

        trials = match_ratio(goal.budget, choices_for, measure, self.context.progress)
        best = nearest(trials, goal.budget)
        chosen = {nodes[name]: choice for name, choice in best.choices.items()}
        note = f"{goal.describe(best.ratio)} measured after {len(trials)} round{'s' * (len(trials) > 1)}"
        if is_near_enough(best.ratio, goal.budget):
            return chosen, [], note
        why = f"{goal.describe(goal.budget)} was not reached: the best that was measured is {goal.describe(best.ratio)}"
        return chosen, [Refusal(goal.where, why, "ask for less, or exclude fewer layers")], note

    # -- chains -----------------------------------------------------------------------------------------------

    def can_be_timed(self, node: Node) -> bool:
        """Whether the layer can run alone."""
        return can_run_alone(view_of(node, self.shapes))

    def _priced(self, seconds: Seconds) -> dict[Node, LayerChoices]:
        """The layers that can run alone, with the seconds of what they are and may become."""
        timed = {node: layer for node, layer in self.layers.items() if self.can_be_timed(node)}
        return {
            node: replace(
                layer,
                whole=self._cost(node, None, layer.whole, seconds),
                choices=[
                    replace(choice, cost=self._cost(node, choice, choice.cost, seconds))
                    for choice in efficient(layer.choices, TIMED)
                ],
            )
            for node, layer in self.context.progress.track(timed.items(), "timing layers", len(timed))
        }

    def _cost(self, node: Node, choice: RankChoice | None, cost: ChainCost, seconds: Seconds) -> ChainCost:
        """The cost of a layer, or of a choice, with its time."""
        alone = node_model(view_of(node, self.shapes))
        if choice is not None:
            op = linear_op_of(alone.graph[0])
            assert op is not None
            write_chain(Editor(alone), op, outline(op, choice), None)
        return replace(cost, seconds=seconds(alone))

    def _outlined(self, choices: Mapping[Node, RankChoice]) -> Model:
        """A copy with the chains of these choices, with any numbers."""
        ops = {node: linear_op_of(node) for node in choices}
        return with_chains(
            self.model, {node: LayerChain(op, outline(op, choices[node])) for node, op in ops.items() if op is not None}
        )


def outline(op: LinearOp, choice: RankChoice) -> list[ChainStage]:
    """The chain of a choice, with any numbers."""
    return FORMS[choice.form].outline(problem_of(op, None), choice.ranks)
