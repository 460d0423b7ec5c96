"""Learning rates: the former program's floats, and the shapes of the others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dshc.errors import InputError
from dshc.training.schedules import SCHEDULES, learning_rate
from dshc.training.settings import OptimSettings


def settings(schedule: str, **values: Any) -> OptimSettings:
    return OptimSettings(**{"lr": 0.1, "schedule": schedule, **values})


def the_former(config: OptimSettings, done: float) -> float:
    """As the program before this one computed it."""
    if config.schedule == "onecycle":
        rising, floor = 0.3, 1 / 25
        up = floor + (1 - floor) * (1 - math.cos(math.pi * done / rising)) / 2
    else:
        rising = 0.05
        up = done / rising
    down = (1 + math.cos(math.pi * (done - rising) / (1 - rising))) / 2
    return config.lr * (up if done < rising else down)


@given(
    schedule=st.sampled_from(["cosine", "onecycle"]),
    lr=st.floats(1e-6, 10),
    total=st.integers(1, 10**6),
    share=st.floats(0, 1, exclude_max=True),
)
def test_the_former_floats(schedule: str, lr: float, total: int, share: float) -> None:
    config = settings(schedule, lr=lr)
    for done in (share, int(share * total) / total, 0.0, 0.05, 0.3, (total - 1) / total):
        assert learning_rate(config, done, 7) == the_former(config, done)


def rates(config: OptimSettings, n_epochs: int, n_steps: int = 7) -> list[list[float]]:
    total = n_epochs * n_steps
    return [
        [learning_rate(config, (epoch * n_steps + step) / total, n_epochs) for step in range(n_steps)]
        for epoch in range(n_epochs)
    ]


@given(
    schedule=st.sampled_from(sorted(SCHEDULES)),
    done=st.floats(0, 1, exclude_max=True),
    n_epochs=st.integers(1, 10**6),
)
def test_every_share_is_between_nothing_and_the_peak(schedule: str, done: float, n_epochs: int) -> None:
    assert 0 <= SCHEDULES[schedule].function(done, settings(schedule), n_epochs) <= 1


def test_the_table_describes_itself() -> None:
    assert list(SCHEDULES) == ["cosine", "onecycle", "constant", "step", "exponential"]
    assert all(row.name == name and row.description for name, row in SCHEDULES.items())


def test_constant() -> None:
    assert {rate for epoch in rates(settings("constant"), 4) for rate in epoch} == {0.1}


@pytest.mark.parametrize(
    ("n_epochs", "every", "falls"),
    [
        (9, None, [3, 6]),
        (100, None, [34, 68]),
        (1, None, []),
        (2, None, [1]),
        (3, None, [1, 2]),
        (10, 4, [4, 8]),
        (5, 9, []),
    ],
)
def test_step_falls_at_the_start_of_epochs(n_epochs: int, every: int | None, falls: list[int]) -> None:
    config = settings("step", lr_every=every, lr_factor=0.5)
    for epoch, found in enumerate(rates(config, n_epochs)):
        assert set(found) == {0.1 * 0.5 ** sum(epoch >= fall for fall in falls)}


@given(n_epochs=st.integers(1, 2000), n_steps=st.integers(1, 5000), data=st.data())
def test_an_epoch_begins_with_its_first_step(n_epochs: int, n_steps: int, data: st.DataObject) -> None:
    config = settings("step", lr=1.0, lr_every=1, lr_factor=0.999)
    epoch = data.draw(st.integers(0, n_epochs - 1))
    total = n_epochs * n_steps
    for step in (0, n_steps - 1):
        assert learning_rate(config, (epoch * n_steps + step) / total, n_epochs) == 0.999**epoch


@pytest.mark.parametrize("n_epochs", [2, 3, 150])
def test_exponential_is_a_logspace_over_epochs(n_epochs: int) -> None:
    found = rates(settings("exponential", lr=1.0, lr_end=1e-4), n_epochs)
    assert all(len(set(epoch)) == 1 for epoch in found)
    first_steps = [epoch[0] for epoch in found]
    np.testing.assert_allclose(first_steps, np.logspace(0, -4, n_epochs), rtol=1e-12)
    assert first_steps[0] == 1 and first_steps[-1] == 1e-4


def test_exponential_over_one_epoch() -> None:
    assert rates(settings("exponential"), 1) == [[0.1] * 7]


def test_without_a_peak() -> None:
    with pytest.raises(InputError, match="lr must be set"):
        learning_rate(OptimSettings(), 0.5, 3)
