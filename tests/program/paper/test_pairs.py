"""The experiment on pairs, small: what it draws, what it measures, that it goes on, and its page."""

import dataclasses

import numpy as np
import pytest

import dshc
from dshc.paper import Bench, get, pairs
from dshc.paper.pairs import known_pairs

LABELS = np.arange(90) % 3


def test_shares_are_those_asked_for():
    found = known_pairs(np.arange(400) % 4, 0.25, 0.1, seed=1)
    n_all = 400 * 399 / 2
    assert found.n_pairs / n_all == pytest.approx(0.25, abs=0.01)
    together = (np.arange(400)[:, None] - np.arange(400)) % 4 == 0
    known = found.known.toarray()
    wrong = ((known > 0) != together)[known != 0].mean()
    assert wrong == pytest.approx(0.1, abs=0.01) and np.array_equal(known, known.T)
    whole = known_pairs(LABELS, 1.0, 0.0, seed=0)
    assert whole.complete and np.array_equal(
        whole.known.toarray() > 0, (LABELS[:, None] == LABELS) & ~np.eye(90, dtype=bool)
    )
    assert known_pairs(LABELS, 0.5, 0.1, seed=3).digest() == known_pairs(LABELS, 0.5, 0.1, seed=3).digest()


@pytest.fixture
def small(monkeypatch):
    """A plan of a few trainings on the digits' pixels."""
    plan = dataclasses.replace(pairs._UCM, data="digits", protocol="digits", bits=30,
                               values={"epochs": 6, "width": 32, "validation": 0.0})  # fmt: skip
    digits = dshc.load_data("digits")
    pixels = digits.inputs.reshape(len(digits.inputs), -1).astype(np.float32)
    monkeypatch.setattr(Bench, "features", lambda self, name, **encoder: (pixels, digits))
    monkeypatch.setattr(pairs, "SHARES", (0.1,))
    monkeypatch.setattr(pairs, "WRONG", (0.0, 0.1))
    return plan


def test_a_small_one(small, tmp_path):
    told = []
    page = pairs._run(Bench(tmp_path, threads=1, tell=told.append), small)
    clean, wrong = page.numbers["pairs"]
    assert clean["classes"] == 10 and clean["right"] == 1 and clean["agreement"] == 1
    assert wrong["classes"] == 10 and wrong["right"] > 0.99 and wrong["agreement"] < 0.9
    truth = page.numbers["labels"]
    # The same groups under other numbers: another training, about as good.
    assert clean["dshc"]["mean_ap"] == pytest.approx(truth["dshc"]["mean_ap"], abs=0.1)
    assert min(cell[method]["mean_ap"] for cell in (clean, wrong) for method in ("dshc", "dpsh")) > 0.5
    assert [table.title for table in page.tables][:2] == ["DSHC on recovered labels", "DPSH on the pairs"]
    assert page.tables[0].rows == [["10%", *(f"{cell['dshc']['mean_ap']:.4f}" for cell in (clean, wrong))]]
    assert len(told) == 8 and not list((tmp_path / "given").iterdir())
    # A second time nothing is left to be done.
    again = pairs._run(Bench(tmp_path, threads=1, tell=told.append), small)
    assert again == page and len(told) == 8


@pytest.mark.deep
def test_a_stopped_one_goes_on(small, tmp_path, monkeypatch):
    bench = Bench(tmp_path, threads=1)
    real, calls = Bench.train, []

    def train(self, name, settings, **more):
        calls.append(name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, name, settings, **more)

    monkeypatch.setattr(Bench, "train", train)
    with pytest.raises(KeyboardInterrupt):
        pairs._run(bench, small)
    done = len(list((tmp_path / "steps").iterdir()))
    assert done == 3  # two methods on true labels, and the first labels
    pairs._run(bench, small)
    assert len(list((tmp_path / "steps").iterdir())) == 8 and len(calls) == 7


def test_what_they_are_called():
    assert get("pairs").data == ("cifar10",) and get("pairs-ucm").data == ("ucm",)
