from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'graphpress[torch]'")

from graphpress.errors import ResourceError, UsageError
from graphpress.progress import Silent
from graphpress.training import optimizer as optimizer_module
from graphpress.training import train_loop
from graphpress.training.checkpoint import Store
from graphpress.training.data import Example
from graphpress.training.optimizer import make_optimizer, set_rate, step
from graphpress.training.settings import Settings
from graphpress.training.train_loop import train

TRUTH = np.random.default_rng(9).normal(size=(4, 2)).astype(np.float32)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)

    def forward(self, feed):
        return {"y": self.second(torch.tanh(self.first(feed["x"])))}


def student():
    net = Net()
    return SimpleNamespace(module=net, parameters=dict(net.named_parameters()))


@dataclass
class FakeSource:
    """A linear map with noise; parts says in how many calls a batch comes."""

    parts: int = 1
    bad_from: int | None = None
    interrupt_at: int | None = None
    asked: list = field(default_factory=list)

    def batch(self, step):
        self.asked.append(step)
        if step == self.interrupt_at:
            raise KeyboardInterrupt
        example = self.example((1, step), 16)
        if self.bad_from is not None and step >= self.bad_from:
            example = replace(example, targets={"y": example.targets["y"] * np.float32(np.nan)})
        return [
            Example({"x": x}, None, len(x), targets={"y": y})
            for x, y in zip(
                np.split(example.feed["x"], self.parts), np.split(example.targets["y"], self.parts), strict=True
            )
        ]

    def held_out(self):
        yield self.example((2,), 32)

    def example(self, seed, count):
        x = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
        return Example({"x": x}, None, count, targets={"y": x @ TRUTH})


def square(values, targets, *, progress=None):
    return torch.nn.functional.mse_loss(values["y"], targets["y"])


def run(model=None, source=None, store=None, knots=None, loss=square, **settings):
    model = model or student()
    settings = {"steps": 60, "minutes": None, "patience": None, **settings}
    done = train(model, loss, source or FakeSource(), Settings(**settings), progress=Silent(), store=store, knots=knots)
    return model, done


def weights(model):
    return {name: parameter.detach().numpy().tobytes() for name, parameter in model.parameters.items()}


def test_it_learns_and_keeps_the_best():
    model, done = run(learning_rate=0.01)
    assert done.steps == 60
    assert done.best < 0.5 * done.start
    example = FakeSource().example((2,), 32)
    with torch.no_grad():
        kept = square(model.module({"x": torch.tensor(example.feed["x"])}), {"y": torch.tensor(example.targets["y"])})
    assert kept.item() == pytest.approx(done.best, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_default_rate_learns(optimizer):
    _, done = run(steps=300, optimizer=optimizer)
    assert done.best < 0.7 * done.start


def test_where_training_only_harms_nothing_changes():
    model = student()
    before = weights(model)
    _, done = run(
        model, loss=lambda values, targets, *, progress: square(values, targets) * (1 if progress is None else -1)
    )
    assert done.best_step == 0
    assert done.best == done.start
    assert weights(model) == before


def test_the_same_again_gives_the_same_bytes():
    assert weights(run()[0]) == weights(run()[0])


def test_calls_of_a_batch_add_up():
    (whole, _), (in_parts, _) = run(), run(source=FakeSource(parts=4))
    for name, parameter in whole.parameters.items():
        torch.testing.assert_close(parameter, in_parts.parameters[name], rtol=1e-3, atol=1e-4)


def test_an_interrupted_training_is_taken_up_to_the_same_bytes(tmp_path):
    store = Store(tmp_path / "state.pt", seconds=1e9)
    with pytest.raises(KeyboardInterrupt) as stop:
        run(source=FakeSource(interrupt_at=33), store=store)
    assert any(str(tmp_path) in note and "same command" in note for note in stop.value.__notes__)
    source = FakeSource()
    model, done = run(source=source, store=store)
    assert done.resumed == 33
    assert source.asked == list(range(33, 60))
    plain, reference = run()
    assert weights(model) == weights(plain)
    assert (done.best, done.best_step, done.start) == (reference.best, reference.best_step, reference.start)


def test_bounded_by_time_and_repeated_step_by_step():
    model, done = run(steps=None, minutes=0.02)
    assert 1 < done.steps < 100_000
    assert done.seconds < 10
    again, second = run(steps=None, minutes=1e-9, knots=done.knots, share=done.share)
    assert second.steps == done.steps
    assert weights(again) == weights(model)


@pytest.fixture
def good_start():
    """Weights that little is wrong with, for which the rate in proportion to them is far too high."""
    model, _ = run(steps=3000, learning_rate=0.01, optimizer="adam")
    return {name: parameter.detach().clone() for name, parameter in model.parameters.items()}


def started_at(start):
    model = student()
    with torch.no_grad():
        for name, parameter in model.parameters.items():
            parameter.copy_(start[name])
    return model


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_trials_find_a_rate_that_a_good_start_gains_from(good_start, optimizer, monkeypatch):
    monkeypatch.setattr(optimizer_module, "SHARE_OF_LENGTH", 0.05)
    monkeypatch.setattr(optimizer_module, "RELATIVE_RATE", 0.3)
    _, found = run(started_at(good_start), steps=600, optimizer=optimizer)
    assert found.share < 1
    assert found.best < found.start


def test_trials_leave_nothing_behind():
    model, done = run(steps=600)
    assert done.share is not None
    again, second = run(steps=600, share=done.share)
    assert weights(again) == weights(model)
    assert (second.best, second.share) == (done.best, done.share)


def test_neither_a_given_rate_nor_a_short_training_is_tried():
    assert run(steps=600, learning_rate=0.01)[1].share is None
    assert run(steps=60)[1].share is None


def test_what_gains_nothing_is_tried_with_lower_rates_and_then_ended():
    model = student()
    before = weights(model)
    _, done = run(
        model,
        loss=lambda values, targets, *, progress: square(values, targets) * (1 if progress is None else -1),
        steps=800,
    )
    assert done.lowered == train_loop.MAX_LOWERED
    assert done.steps < 0.8 * 800
    assert done.stopped_early
    assert weights(model) == before


def test_a_rate_that_was_lowered_recovers(good_start, monkeypatch):
    monkeypatch.setattr(optimizer_module, "RELATIVE_RATE", 1.0)
    _, done = run(started_at(good_start), steps=2000, share=1.0)
    assert done.lowered
    assert done.best < done.start


def test_the_average_counts_where_it_is_better(monkeypatch):
    """Under noise, at a rate that does not fall, the weights swing around what their average settles on."""
    monkeypatch.setattr(train_loop, "learning_rate_factor", lambda progress: 1.0)

    class Noisy(FakeSource):
        def batch(self, step):
            noise = np.random.default_rng(step).normal(size=(16, 2)).astype(np.float32)
            return [replace(example, targets={"y": example.targets["y"] + noise}) for example in super().batch(step)]

    model, done = run(source=Noisy(), steps=400, learning_rate=0.05)
    example = FakeSource().example((2,), 32)
    with torch.no_grad():
        kept = square(model.module({"x": torch.tensor(example.feed["x"])}), {"y": torch.tensor(example.targets["y"])})
    assert kept.item() == pytest.approx(done.best, rel=1e-6)
    assert done.averaged


def test_steps_bound_a_training_that_has_time():
    _, done = run(steps=30, minutes=10)
    assert done.steps == 30


def test_patience_ends_it_on_a_falling_rate_and_can_be_repeated():
    settings = {"steps": 4000, "learning_rate": 0.05, "patience": 3}
    model, done = run(**settings)
    assert done.stopped_early
    assert done.steps < 3000
    again, second = run(**settings, knots=done.knots)
    assert second.steps == done.steps
    assert weights(again) == weights(model)


def test_a_loss_that_is_no_number():
    model = student()
    with pytest.raises(UsageError, match="no number") as raised:
        run(model, FakeSource(bad_from=7), learning_rate=0.5)
    assert "learning_rate" in raised.value.fix
    assert "0.5" in raised.value.fix
    with pytest.raises(UsageError, match="no number"):
        run(source=FakeSource(bad_from=7))


def test_a_rate_of_our_own_is_lowered_when_the_loss_blows_up():
    bad = iter([False] * 20 + [True] + [False] * 1000)

    def loss(values, targets, *, progress=None):
        return square(values, targets) * (float("nan") if progress is not None and next(bad) else 1.0)

    _, done = run(loss=loss)
    assert done.slowed == 1
    assert done.best < done.start


def test_memory_that_runs_out():
    def loss(values, targets, *, progress=None):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(ResourceError, match="memory ran out") as raised:
        run(loss=loss)
    assert "batch_size" in raised.value.fix


def test_torch_is_left_as_it_was():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    run(threads=1, steps=5)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_progress_is_reported_in_hundredths():
    told = []

    class Watch:
        def track(self, items, description, total=None):
            for item in items:
                told.append((description, total))
                yield item

    train(student(), square, FakeSource(), Settings(steps=7, minutes=None), progress=Watch(), what="distill")
    assert told == [("distill", 100)] * 100


def test_rates_fit_the_weights():
    large, small, empty = torch.full((10,), 1.0), torch.full((10,), 0.001), torch.zeros(3)
    optimizer = make_optimizer("adam", [large, small, empty], None)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, pytest.approx(0.01 * 2**-7)]
    set_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.005
    (group,) = make_optimizer("sgd", [large, small], 0.3).param_groups
    assert group["lr"] == 0.3
    rates = [make_optimizer("sgd", [large * size], None).param_groups[0]["lr"] for size in (1, 10)]
    assert rates[1] == pytest.approx(10 * rates[0])
    (gentle,) = make_optimizer("sgd", [large], None, gentle=True).param_groups
    assert gentle["lr"] == pytest.approx(rates[0] / 10)


def test_descent_moves_no_further_than_its_rate():
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = make_optimizer("sgd", [weight], 0.1)
    weight.grad = torch.full((4,), 1e6)
    step(optimizer)
    assert 0.1 < weight.detach().norm().item() <= 0.1 * 1.9001, "the momentum of the first step is part of it"


def test_measurements_are_few():
    calls = []

    class Counted(FakeSource):
        def held_out(self):
            calls.append(1)
            return super().held_out()

    run(source=Counted(), steps=400, learning_rate=0.01)
    assert train_loop.EVALUATIONS - 5 <= len(calls) / 2 <= train_loop.EVALUATIONS + 2, "weights and their average"


def test_interrupted_in_the_middle_of_a_step_the_last_whole_state_counts(tmp_path, monkeypatch):
    """What a step half changed is not saved."""
    store, taken = Store(tmp_path / "state.pt", seconds=0.0), []

    def half_a_step(optimizer):
        taken.append(1)
        if len(taken) == 12:
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].add_(1.0)
            raise KeyboardInterrupt
        step(optimizer)

    with monkeypatch.context() as patch:
        patch.setattr(train_loop, "step", half_a_step)
        with pytest.raises(KeyboardInterrupt):
            run(store=store)
    model, done = run(store=store)
    assert done.resumed == 11
    assert weights(model) == weights(run()[0])


def test_a_training_that_was_slowed_down_is_taken_up(tmp_path):
    def blows_up_once():
        bad = iter([False] * 20 + [True] + [False] * 1000)

        def loss(values, targets, *, progress=None):
            return square(values, targets) * (float("nan") if progress is not None and next(bad) else 1.0)

        return loss

    store = Store(tmp_path / "state.pt", seconds=1e9)
    with pytest.raises(KeyboardInterrupt):
        run(source=FakeSource(interrupt_at=40), store=store, loss=blows_up_once())
    model, done = run(store=store)
    assert (done.slowed, done.resumed) == (1, 40)
    assert weights(model) == weights(run(loss=blows_up_once())[0])
