import math

import pytest
import torch

from ordage.config import TrainingConfig, read_duration
from ordage.errors import UsageError
from ordage.schedule import Schedule, TimeLimit


def optimizer(lr=0.5):
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def rates(schedule, sgd, steps):
    found = []
    for done in steps:
        schedule.before_step(done)
        found.append(sgd.param_groups[0]["lr"])
    return found


def test_the_rate_rises_linearly_and_falls_as_a_cosine():
    sgd = optimizer()
    schedule = Schedule(sgd, total=100, warmup=10)

    found = rates(schedule, sgd, range(100))

    warm = [0.5 * min(done + 1, 10) / 10 for done in range(10)]
    falling = [0.25 * (1 + math.cos(math.pi * (done - 10) / 91)) for done in range(10, 100)]
    assert found == pytest.approx([*warm[:9], *[0.5 * 10 / 10], *falling], abs=1e-12)
    assert not schedule.is_over(99)
    assert schedule.is_over(100)


def test_a_short_run_warms_up_for_a_fifth_of_it():
    sgd = optimizer()

    found = rates(Schedule(sgd, total=10, warmup=1000), sgd, range(10))

    assert found.index(max(found)) == 1
    assert found[-1] < 0.2 * max(found)


def test_a_new_plan_bends_the_curve_and_keeps_the_peak():
    sgd = optimizer()
    schedule = Schedule(sgd, total=None, warmup=10)
    assert not schedule.is_over(10**9)
    before = rates(schedule, sgd, range(50))
    assert before[-1] == pytest.approx(0.5)

    schedule.plan(1000)
    after = rates(schedule, sgd, [50, 505, 999])

    assert after == pytest.approx([0.25 * (1 + math.cos(math.pi * (done - 10) / 991)) for done in (50, 505, 999)])


class Machine:
    """A clock that only work moves, so that a test does not depend on the machine that it runs on."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr("ordage.schedule.time.perf_counter", lambda: self.now)

    def train(self, limit, *, epoch, step, validation, start=0):
        """Train as the loop does; return the steps done and the plans made on the way."""
        done, total, plans = start, None, []
        while total is None or done < total:
            for _ in range(epoch):
                self.now += step(done)
                done += 1
                if limit.due(done, start):
                    total = limit.plan(done)
                    plans.append(total)
                if total is not None and done >= total:
                    break
            self.now += validation
            limit.validated(validation)
        return done, plans


@pytest.mark.parametrize(
    ("epoch", "step", "validation", "share"),
    [
        (100, lambda done: 0.1, 2.0, 0.14),
        (100, lambda done: 0.1, 30.0, 0.14),  # a validation that costs three times an epoch
        (10**6, lambda done: 0.5, 60.0, 0.0002),  # not one whole epoch
        (100, lambda done: 20.0 if done == 0 else 0.1, 2.0, 0.14),  # the first step compiles
        (100, lambda done: 0.1 if done < 2000 else 0.25, 2.0, 0.14),  # somebody else starts to work on the machine
        (100, lambda done: 0.25 if done < 800 else 0.1, 2.0, 0.14),  # or leaves it
    ],
)
def test_training_ends_when_the_time_is_over_and_not_long_before(monkeypatch, epoch, step, validation, share):
    machine = Machine(monkeypatch)

    done, plans = machine.train(TimeLimit(600, epoch, share), epoch=epoch, step=step, validation=validation)

    assert 0.9 * 600 < machine.now - 100 <= 1.01 * 600 + validation
    assert len(plans) > 10
    assert done == plans[-1]


def test_epochs_bound_what_a_time_limit_allows(monkeypatch):
    machine = Machine(monkeypatch)

    done, _ = machine.train(TimeLimit(600, 100, 0.14, most=300), epoch=100, step=lambda done: 0.1, validation=2.0)

    assert done == 300


def test_a_resumed_run_has_what_is_left_of_its_time(monkeypatch):
    machine = Machine(monkeypatch)
    limit = TimeLimit(600, 100, 0.14)
    limit.resume(450.0)

    machine.train(limit, epoch=100, step=lambda done: 0.1, validation=2.0, start=4000)

    assert 0.9 * 150 < machine.now - 100 <= 1.01 * 150 + 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("10 min", 600), ("1.5h", 5400), ("1h30m5s", 5405)]
)
def test_a_time_limit_is_written_as_people_write_it(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "soon", "10x", "-5m", "m", "1h30"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match=r"^--time-limit .*: expected a time of a second or more"):
        TrainingConfig.parse({"time_limit": text})


def test_a_few_slow_steps_end_near_the_limit_too(monkeypatch):
    machine = Machine(monkeypatch)

    done, _ = machine.train(TimeLimit(30, 100, 0.14), epoch=100, step=lambda done: 6.0, validation=3.0)

    assert done == 4
    assert machine.now - 100 <= 30 + 6


def test_a_plan_does_not_disturb_the_rate_of_the_step_that_is_done():
    sgd = optimizer()
    schedule = Schedule(sgd, total=None, warmup=10)
    rates(schedule, sgd, range(50))

    schedule.plan(49)

    assert sgd.param_groups[0]["lr"] < 0.01 * 0.5
