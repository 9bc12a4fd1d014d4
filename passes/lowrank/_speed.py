"""Ranks for a speed-up: each choice is timed as the chain that it becomes, and the whole model decides.

Measured here: a layer and its efficient choices run alone, each different one once; what the rest of the model takes is
the time of the whole less that of its layers. The budget is corrected until the decomposed model, timed in turn with
the whole one, is as fast as asked. For another target a chain takes what the roofline says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

from graphpress.allocation import Goal, LatencyBench, match_ratio
from graphpress.allocation.node_model import can_run_alone, node_model, signature
from graphpress.allocation.speedup import is_near_enough, latency_ratio, nearest
from graphpress.analysis.cost import layer_roofline, model_cost
from graphpress.analysis.linear import linear_op_of
from graphpress.analysis.views import view_of
from graphpress.errors import UsageError
from graphpress.ir import Dims, Editor, Model, NodeView, Refusal
from graphpress.manager.contract import Context
from graphpress.passes._probe import probe_feed
from graphpress.passes.lowrank._allocate import Frontier, LayerChoices, allocate
from graphpress.passes.lowrank._candidates import DecomposableLayer
from graphpress.passes.lowrank._choices import RankChoice, efficient
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank._observed import outline_of
from graphpress.passes.lowrank._sensitivity import LayerChain, with_chains
from graphpress.passes.lowrank._write import write_chain
from graphpress.runtime import Session, undisturbed_latency

TIMED = 8
"""Choices of a layer that are timed, at most."""

Seconds = Callable[[str, Callable[[], Model]], float]
"""The time of a model of one layer, by what decides it, and how to make the model where it is not known yet."""


@dataclass(frozen=True)
class SpeedPlanner:
    """Chooses ranks for a speed-up.

    Args:
        model: not changed.
        shapes: static, by value name.
        layers: by name.
        context: target, threads, data and cache.
    """

    model: Model
    shapes: Mapping[str, Dims]
    layers: Mapping[str, DecomposableLayer]
    context: Context

    def can_time(self, name: str) -> bool:
        """Whether the layer can run alone, and as often as the model does."""
        return all(member.is_seen and can_run_alone(self._view(member)) for member in self.layers[name].members)

    def choose(
        self, options: Mapping[str, LayerChoices], goal: Goal
    ) -> tuple[dict[str, RankChoice], list[Refusal], str]:
        """Choices, what of the goal is missing, and a sentence for the report.

        Args:
            options: what each layer may become, of those that can be timed.
            goal: a speed-up.

        Raises:
            UsageError: a target that states no rates to model it with.
        """
        return self._measured(options, goal) if self.context.target.this_machine else self._modelled(options, goal)

    def frontier(self, options: Mapping[str, LayerChoices]) -> Frontier | None:
        """What layers may become by the time that it takes, here or modelled; None for a target that states no rates.

        Args:
            options: as for ``choose``.
        """
        if self.context.target.this_machine:
            feed, session = probe_feed(self.model, self.context), Session(self.model, threads=self.context.threads)
            whole = undisturbed_latency(lambda: session.run(feed)) / 1e3
            return Frontier(self._priced(options, self._bench.seconds), "seconds", whole)
        modelled = self._roofline_seconds
        if modelled is None:
            return None
        return Frontier(self._priced(options, lambda _, build: modelled(build())), "seconds", modelled(self.model))

    def slower(self, choices: Mapping[str, RankChoice]) -> set[str]:
        """The layers that can be timed here, and are not faster as these chains."""
        timed = {name: choice for name, choice in choices.items() if self.can_time(name)}
        return {
            name
            for name, choice in self.context.progress.track(timed.items(), "timing chains", len(timed))
            if self._time(self._bench.seconds, name, choice) >= self._time(self._bench.seconds, name)
        }

    @cached_property
    def _bench(self) -> LatencyBench:
        return LatencyBench(self.context.threads, self.context.cache, model_cost(self.model).bytes)

    @property
    def _roofline_seconds(self) -> Callable[[Model], float] | None:
        roofline = layer_roofline(self.context.target)
        return None if roofline is None else lambda model: sum(map(roofline, model_cost(model).layers))

    def _modelled(
        self, options: Mapping[str, LayerChoices], goal: Goal
    ) -> tuple[dict[str, RankChoice], list[Refusal], str]:
        frontier, seconds = self.frontier(options), self._roofline_seconds
        if frontier is None or seconds is None:
            raise UsageError(
                f"no speed-up can be modelled for {self.context.target.name}: it states no peak rate or no bandwidth",
                where=goal.where,
                fix="ask for macs_kept instead, or state peak_gmacs and bandwidth_gbs in the target's file",
            )
        best, shortfall = allocate(frontier.layers, goal, frontier.whole)
        kept = seconds(self._outlined(best)) / frontier.whole
        note = f"{goal.describe(kept)} as modelled for {self.context.target.name}, not measured"
        return best, [] if shortfall is None else [shortfall], note

    def _measured(
        self, options: Mapping[str, LayerChoices], goal: Goal
    ) -> tuple[dict[str, RankChoice], list[Refusal], str]:
        frontier = self.frontier(options)
        assert frontier is not None
        feed, session = probe_feed(self.model, self.context), Session(self.model, threads=self.context.threads)

        def choices_for(budget: float) -> tuple[dict[str, RankChoice], bool]:
            best, shortfall = allocate(frontier.layers, Goal("speedup", 1 / budget, goal.where), frontier.whole)
            return best, shortfall is None

        def measure(choices: dict[str, RankChoice]) -> float:
            if not choices:  # the model as it is: what a measurement would differ by is noise
                return 1.0
            return latency_ratio(session, self._outlined(choices), feed, self.context.threads)

        trials = match_ratio(goal.budget, choices_for, measure, self.context.progress)
        best = nearest(trials, goal.budget)
        note = f"{goal.describe(best.ratio)} measured after {len(trials)} round{'s' * (len(trials) > 1)}"
        if is_near_enough(best.ratio, goal.budget):
            return best.choices, [], note
        why = f"{goal.describe(goal.budget)} was not reached: the best that was measured is {goal.describe(best.ratio)}"
        return best.choices, [Refusal(goal.where, why, "ask for less, or exclude fewer layers")], note

    # -- chains -----------------------------------------------------------------------------------------------

    def _priced(self, options: Mapping[str, LayerChoices], seconds: Seconds) -> dict[str, LayerChoices]:
        """The layers with the seconds of what they are and may become."""
        return {
            name: self._priced_layer(name, layer, seconds)
            for name, layer in self.context.progress.track(options.items(), "timing layers", len(options))
        }

    def _priced_layer(self, name: str, layer: LayerChoices, seconds: Seconds) -> LayerChoices:
        whole = replace(layer.whole, seconds=self._time(seconds, name))
        timed = [
            replace(choice, cost=replace(choice.cost, seconds=self._time(seconds, name, choice)), replaced=whole)
            for choice in efficient(layer.choices, TIMED)
        ]
        return replace(layer, whole=whole, choices=timed)

    def _view(self, layer: DecomposableLayer) -> NodeView:
        return view_of(layer.node, self.shapes)

    def _time(self, seconds: Seconds, name: str, choice: RankChoice | None = None) -> float:
        """The time of a layer and its twins, or of the chains of a choice; models are made where they are timed."""
        chain = None if choice is None else (choice.form, choice.ranks)
        return sum(
            seconds(repr((signature(self._view(member)), chain)), partial(self._alone, member, choice))
            for member in self.layers[name].members
        )

    def _alone(self, layer: DecomposableLayer, choice: RankChoice | None = None) -> Model:
        """A model of the layer alone, or of the chain of a choice, with any numbers."""
        alone = node_model(self._view(layer))
        op = linear_op_of(alone.graph[0])
        if choice is not None and op is not None:
            write_chain(Editor(alone), op, outline_of(op, FORMS[choice.form], choice.ranks), None)
        return alone

    def _outlined(self, choices: Mapping[str, RankChoice]) -> Model:
        """A copy with the chains of these choices, with any numbers."""
        chains = [(op, choice) for name, choice in choices.items() for op in self.layers[name].ops]
        return with_chains(
            self.model,
            [LayerChain(op, outline_of(op, FORMS[choice.form], choice.ranks)) for op, choice in chains],
        )
