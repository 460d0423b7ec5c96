"""Runs over seeds and grids, with a training that is made up."""

from __future__ import annotations

import dataclasses
import doctest
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from evaluation_sets import hand

import dshc.experiment.seeds
from dshc.evaluation import Evaluation
from dshc.experiment import Spread, grid, over_seeds


@dataclass(frozen=True)
class Settings:
    """Settings of a run, as far as an experiment knows them."""

    values: tuple[tuple[str, Any], ...] = (("runtime.seed", 0), ("out", None), ("method.bits", 8))

    def with_values(self, **values: Any) -> Settings:
        known = dict(self.values)
        if unknown := values.keys() - known.keys():
            raise ValueError(f"unknown setting {sorted(unknown)}")
        if values.get("method.bits", 1) < 1:
            raise ValueError("method.bits must be at least 1")
        return Settings(tuple({**known, **values}.items()))

    def __getitem__(self, name: str) -> Any:
        return dict(self.values)[name]


def made_up(settings: Settings) -> Evaluation:
    seed = settings["runtime.seed"]
    accuracy = {"queries": {"top_1": 1 - seed / 10}}
    return dataclasses.replace(hand(), mean_ap=seed / 10, accuracy=accuracy)


def test_mean_and_spread_over_seeds() -> None:
    told: list[tuple[int, int]] = []
    table = over_seeds(
        Settings(), range(1, 4), train=made_up, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [row.seed for row in table.rows] == [1, 2, 3]
    assert table.mean_ap.mean == pytest.approx(0.2) and table.mean_ap.stdev == pytest.approx(0.1)
    assert table.accuracy is not None and table.accuracy.mean == pytest.approx(0.8)
    assert table.seconds.n == 3 and table.seconds.mean >= 0
    assert table.conventions == "mAP@all, ties=expected, denominator=retrieved, score=hamming, empty=zero"


def test_each_run_has_its_seed_and_folder(tmp_path: Path) -> None:
    seen: list[Settings] = []

    def train(settings: Settings) -> Evaluation:
        seen.append(settings)
        return hand()

    over_seeds(Settings(), [5, 2], train=train, folder=tmp_path)
    assert [(run["runtime.seed"], run["out"]) for run in seen] == [
        (5, str(tmp_path / "seed-5")),
        (2, str(tmp_path / "seed-2")),
    ]
    over_seeds(Settings(), [1], train=train)
    assert seen[-1]["out"] is None


def test_seconds_are_those_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 20.0, 26.0])
    monkeypatch.setattr(dshc.experiment.seeds.time, "perf_counter", lambda: next(clock))
    table = over_seeds(Settings(), [0, 1], train=made_up)
    assert [row.seconds for row in table.rows] == [2.0, 6.0]
    assert table.seconds == Spread(4.0, statistics.stdev([2.0, 6.0]), 2)


def test_the_table_in_markdown_and_json() -> None:
    table = over_seeds(Settings(), [1, 3], train=made_up)
    lines = table.to_markdown().splitlines()
    assert lines[2].startswith("| 1 | 0.1000 | 0.9000 | 0 | 1 | 6 |")
    assert lines[4].startswith("| mean ± standard deviation | 0.2000 ± 0.1414 | 0.8000 ± 0.1414 |")
    assert len({line.count("|") for line in lines[:5]}) == 1
    assert lines[-1] == f"{table.conventions}, 2 bits."
    document = json.loads(json.dumps(table.to_dict()))
    assert document["summary"]["mean_ap"] == {"mean": 0.2, "stdev": pytest.approx(0.1414213), "n": 2}
    assert [row["seed"] for row in document["rows"]] == [1, 3]


def test_accuracy_that_is_unknown_or_multi_label() -> None:
    table = over_seeds(Settings(), [0], train=lambda settings: hand())
    assert table.accuracy is None and table.rows[0].accuracy is None
    assert table.to_dict()["summary"]["accuracy"] is None and "| 0 | 0.8167 |  |" in table.to_markdown()
    assert table.mean_ap.stdev == 0
    f1 = {"queries": {"exact_match": 0.1, "micro_f1": 0.6}}
    table = over_seeds(Settings(), [0], train=lambda settings: dataclasses.replace(hand(), accuracy=f1))
    assert table.rows[0].accuracy == 0.6


def test_runs_measured_differently_are_not_averaged() -> None:
    ties = {0: "expected", 1: "worst"}
    with pytest.raises(ValueError, match=r"all seeds must be measured alike, got .*ties=worst.* with seed 1"):
        over_seeds(Settings(), [0, 1], train=lambda settings: hand(ties=ties[settings["runtime.seed"]]))


def test_wrong_seeds_are_refused_before_any_run() -> None:
    def never(settings: Settings) -> Evaluation:
        raise AssertionError("a run began")

    for seeds, error, words in [
        ([], ValueError, "seeds must hold at least one seed, got none"),
        ([1, 2, 1], ValueError, "seeds must differ, got 1 more than once"),
        ([0, 1.5], TypeError, "seeds must be ints, got 1.5"),
    ]:
        with pytest.raises(error, match=words):
            over_seeds(Settings(), seeds, train=never)
    with pytest.raises(ValueError, match="unknown setting"):
        over_seeds(Settings((("out", None),)), [0], train=never)


def test_what_a_training_raises_goes_through() -> None:
    def broken(settings: Settings) -> Evaluation:
        raise RuntimeError("loss is NaN")

    with pytest.raises(RuntimeError, match="loss is NaN"):
        over_seeds(Settings(), [0], train=broken)


def test_a_grid_has_every_point_once() -> None:
    points = list(grid(Settings(), {"method.bits": (16, 32), "runtime.seed": [1, 2, 3]}))
    assert [(p["method.bits"], p["runtime.seed"]) for p in points] == [
        (16, 1),
        (16, 2),
        (16, 3),
        (32, 1),
        (32, 2),
        (32, 3),
    ]
    assert list(grid(Settings(), {})) == [Settings()]


def test_a_wrong_grid_is_refused_before_its_first_point() -> None:
    for changes, error, words in [
        ({"method.bits": [16, 0]}, ValueError, "method.bits must be at least 1"),
        ({"bits": [16]}, ValueError, "unknown setting"),
        ({"method.bits": []}, ValueError, "method.bits must be given at least one value, got none"),
        ({"out": "text"}, TypeError, "out must be given a list of values, got 'text'"),
        ({"method.bits": 16}, TypeError, "method.bits must be given a list of values, got 16"),
    ]:
        with pytest.raises(error, match=words):
            grid(Settings(), changes)


def test_the_example_of_the_docstring_runs() -> None:
    found = doctest.testmod(dshc.experiment.seeds)
    assert found.failed == 0 < found.attempted
