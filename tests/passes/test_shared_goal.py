"""prune and lowrank next to each other: one goal, however often it is stated, and one transaction."""

import pytest

from graphpress.errors import UsageError
from graphpress.manager.recipe import from_passes, from_text
from graphpress.manager.stages import stages_of
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.passes.prune.prune import Prune


def transactions(recipe):
    """How many passes each has."""
    return [len(stage.passes) for stage in stages_of(recipe.passes) if stage.transaction is not None]


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("prune,lowrank{macs_kept=0.4}", "macs_kept=0.4"),
        ("prune{params_kept=0.4},lowrank", "params_kept=0.4"),
        ("prune{speedup=2.0},lowrank{speedup=2.0}", "speedup=2.0"),
        ("prune,lowrank", "macs_kept=0.5"),
    ],
)
def test_a_goal_is_shared_however_often_it_is_stated(text, goal):
    recipe = from_text(text)
    assert recipe.text().endswith(f"prune{{{goal}}},lowrank{{{goal}}},reconstruct")
    assert transactions(recipe) == [3]
    assert from_text(recipe.text()).passes == recipe.passes


def test_passes_in_python_share_it_too():
    recipe = from_passes([Prune(criterion="l2"), LowRank(macs_kept=0.4), "distill{steps=5}"])
    assert "prune{macs_kept=0.4,criterion=l2},lowrank{macs_kept=0.4},reconstruct,distill" in recipe.text()
    assert transactions(recipe) == [4]


@pytest.mark.parametrize(
    "text",
    [
        "prune{ratio=0.3},lowrank{macs_kept=0.4}",
        "prune{macs_kept=0.4},lowrank{rank=0.5}",
        "prune,lowrank{energy=0.9}",
        "prune,lowrank{vbmf=true}",
        "prune,reconstruct,lowrank{macs_kept=0.4}",
        "lowrank{macs_kept=0.4},prune",
    ],
)
def test_rules_of_their_own_and_a_recovery_between_keep_them_apart(text):
    recipe = from_text(text)
    assert transactions(recipe) == [2, 2]
    assert from_text(recipe.text()).passes == recipe.passes


@pytest.mark.parametrize("goal", ["macs_kept=0.6", "params_kept=0.5"])
def test_two_goals_contradict(goal):
    with pytest.raises(UsageError, match=r"(?s)prune\{macs_kept=0.5\} and lowrank\{.* share one goal.*reconstruct"):
        from_text(f"prune{{macs_kept=0.5}},lowrank{{{goal}}}")


@pytest.mark.parametrize(
    ("text", "follows"),
    [
        ("prune{recover=false},lowrank", True),
        ("prune,lowrank{recover=false}", True),
        ("prune{recover=false},lowrank{recover=false}", False),
    ],
)
def test_they_are_recovered_from_together_once(text, follows):
    assert from_text(text).text().count("reconstruct") == follows
