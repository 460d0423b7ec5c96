"""When a question is asked a second time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dshc.cluster.hedging import Pace
from dshc.errors import InputError


@given(st.lists(st.floats(0.001, 10), min_size=16, max_size=400), st.floats(0.01, 0.99))
def test_as_many_as_the_quantile_says_are_asked_again(seconds: list[float], quantile: float) -> None:
    pace = Pace(quantile)
    for one in seconds:
        pace.told(("topk", 4), one)
    kept = seconds[-256:]
    after = pace.after(("topk", 4))
    assert after in kept
    assert sum(one > after for one in kept) <= (1 - quantile) * len(kept)
    assert sum(one >= after for one in kept) >= (1 - quantile) * len(kept) - 1e-9


def test_few_answers_tell_nothing() -> None:
    pace = Pace(0.5)
    for _ in range(15):
        pace.told("topk", 1.0)
    assert pace.after("topk") == math.inf
    pace.told("topk", 1.0)
    assert pace.after("topk") == 1.0 and pace.after("radius") == math.inf


@pytest.mark.parametrize("quantile", [0, 1, -0.5, 95, True, "0.9", None])
def test_what_is_no_quantile(quantile: object) -> None:
    with pytest.raises(InputError, match="hedge must be a quantile between 0 and 1, such as 0.95, got"):
        Pace(quantile)
