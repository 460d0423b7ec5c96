"""The search over a grid: all pairs, the defaults first, and past an edge as long as it gets better."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dshc.errors import InputError
from dshc.experiment import Grid
from dshc.experiment.tuning import GridSearch

VALUES = {"optim.lr": 0.02, "method.eta": 0.5}


def carried_out(search, value_of):
    """The points of every round, by a function of both values."""
    rounds = []
    while points := search.take():
        assert search.take() == points, "asking does not change what is asked"
        rounds.append(points)
        search.tell([value_of(*point.values()) for point in points])
    return rounds


def peak(lr, weight=0.0):
    """Best at these logarithms to the base 10, and worse the further away."""
    return lambda *x: -sum((math.log10(v) - at) ** 2 for v, at in zip(x, (lr, weight)[: len(x)], strict=True))


def test_all_pairs_the_defaults_first():
    search = GridSearch(Grid(), VALUES)
    (points,) = carried_out(search, peak(0, 0))
    assert points[0] == VALUES and len(points) == 9
    assert {p["optim.lr"] for p in points} == {0.006, 0.02, 0.06}
    assert {p["method.eta"] for p in points} == {0.05, 0.5, 5.0}
    assert search.tried[search.best][0] == {"optim.lr": 0.06, "method.eta": 0.5}
    assert [point for point, _ in search.tried] == points


def test_a_method_without_a_weight_is_tried_at_the_rates():
    (points,) = carried_out(GridSearch(Grid(), {"optim.lr": 0.02}), peak(-2))
    assert points == [{"optim.lr": 0.02}, {"optim.lr": 0.06}, {"optim.lr": 0.006}]


def test_it_goes_on_past_an_edge_until_the_best_lies_inside():
    search = GridSearch(Grid(widen=9), VALUES)
    rounds = carried_out(search, peak(-0.1, -0.3))  # a rate of about 0.8, a weight of 0.5
    added = [point for points in rounds[1:] for point in points]
    assert added == [
        {"optim.lr": 0.18, "method.eta": 0.5},
        {"optim.lr": 0.54, "method.eta": 0.5},
        {"optim.lr": 1.62, "method.eta": 0.5},
    ]
    assert search.tried[search.best][0] == {"optim.lr": 0.54, "method.eta": 0.5}


def test_at_a_corner_both_go_on():
    rounds = carried_out(GridSearch(Grid(widen=1), VALUES), peak(3, -4))
    assert rounds[1] == [{"optim.lr": 0.18, "method.eta": 0.05}, {"optim.lr": 0.06, "method.eta": 0.005}]
    assert len(rounds) == 2  # not more often than it may


def test_an_axis_of_one_factor_stays():
    search = GridSearch(Grid(weight=(1.0,), widen=5), VALUES)
    rounds = carried_out(search, peak(9, 9))
    assert {p["method.eta"] for points in rounds for p in points} == {0.5} and len(rounds) == 6


def test_what_came_to_nothing_is_passed_over():
    search = GridSearch(Grid(widen=2), {"optim.lr": 0.02})
    carried_out(search, lambda lr: None if lr > 0.02 else lr)
    assert search.tried[search.best] == ({"optim.lr": 0.02}, 0.02)
    nothing = GridSearch(Grid(widen=2), {"optim.lr": 0.02})
    assert len(carried_out(nothing, lambda lr: None)) == 1 and nothing.best is None


@given(
    st.lists(st.sampled_from([0.1, 0.3, 1.0, 3.0, 10.0]), min_size=1, max_size=5, unique=True),
    st.lists(st.sampled_from([0.1, 1.0, 10.0]), min_size=1, max_size=3, unique=True),
    st.integers(0, 4),
    st.tuples(st.floats(-6, 6), st.floats(-6, 6)),
)
def test_no_point_is_tried_twice_and_the_best_is_the_best(lr, weight, widen, at):
    search = GridSearch(Grid(tuple(lr), tuple(weight), widen), VALUES)
    rounds = carried_out(search, peak(*at))
    points = [tuple(p.values()) for points in rounds for p in points]
    assert len(set(points)) == len(points) == len(search.tried) and len(rounds) <= 1 + widen
    values = [value for _, value in search.tried]
    assert search.best == values.index(max(values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widen": -1}, "widen must be a whole number of at least 0, got -1"),
        ({"lr": ()}, "lr factors must be different numbers above 0, at least one"),
        ({"weight": (1.0, 1.0)}, "weight factors must be different numbers above 0"),
    ],
)
def test_a_grid_that_is_none_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        Grid(**values)


def test_points_that_are_equal_once_rounded_are_tried_once():
    search = GridSearch(Grid(lr=(1.0, 1.0001, 3.0), weight=(1.0,), widen=1), {"optim.lr": 0.02})
    first, *later = carried_out(search, peak(1))
    assert first == [{"optim.lr": 0.02}, {"optim.lr": 0.06}]
    assert later == [[{"optim.lr": 0.18}]]
