"""Warm start: what is taken over from another hasher, and what is refused."""

import shutil

import numpy as np
import pytest
import torch
from training_plans import planned
from training_runs import Stopped, at_step, final, stop, train

from dshc.hasher import Hasher

SMALL = {"epochs": 1, "bits": 15, "width": 8, "threads": 1, "batch_size": 32}
PLAN = {name: SMALL[name] for name in ("epochs", "bits", "width", "batch_size")}


def items(path, names, d=6):
    """Features of some of the classes a to d, which lie apart, as a file."""
    rng = np.random.default_rng(0)
    labels = np.arange(40 * len(names)) % len(names)
    centers = 4 * np.eye(4, d)[["abcd".index(name) for name in names]]
    values = (centers[labels] + rng.normal(size=(len(labels), d))).astype(np.float32)
    np.savez(path, features=values, labels=labels, class_names=np.array([*names]))
    return path


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A run on classes a, b and d."""
    folder = tmp_path_factory.mktemp("before")
    return train(folder / "run", {"source": str(items(folder / "abd.npz", "abd")), **SMALL}).folder


@pytest.fixture
def old(before):
    return Hasher.load(before, device="cpu")


@pytest.fixture
def four(tmp_path):
    return items(tmp_path / "abcd.npz", "abcd")


def rows_of(hasher):
    """Rows of the head by class name and code."""
    method, rows = hasher.method, {}
    for c, name in enumerate(hasher.class_names):
        for i in range(int(method.offsets[c]), int(method.offsets[c + 1])):
            row = torch.cat([method.head.weight[i], method.head.bias[i : i + 1]])
            rows[name, bytes(method.codes[i].tolist())] = row.detach().clone()
    return rows


def same(first, second):
    states = first.state_dict(), second.state_dict()
    return {*states[0]} == {*states[1]} and all(torch.equal(v, states[1][n]) for n, v in states[0].items())


def test_backbone_normalisation_and_known_classes_are_taken_over(old, four):
    new = planned(four, earlier=old, **PLAN).hasher
    assert new.class_names == tuple("abcd") and old.class_names == tuple("abd")
    assert same(new.backbone, old.backbone) and same(new.preprocessing, old.preprocessing)
    known, found = rows_of(old), rows_of(new)
    assert {*known} == {key for key in found if key[0] != "c"}  # codes in use stay as they are
    assert all(torch.equal(found[key], row) for key, row in known.items())
    own = [row for (name, _), row in found.items() if name == "c"]
    assert own and not any(torch.equal(row, other) for row in own for other in known.values())


def test_codes_made_before_stay_comparable(old, four):
    """Before the first step an item gets the code it had, unless a sub-class of a new class is the likeliest."""
    new = planned(four, earlier=old, **PLAN).hasher
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(200, 6)).astype(np.float32))
    likeliest, (start, end) = new.outputs(values).argmax(1), new.method.offsets[2:4].tolist()
    known = ((likeliest < start) | (likeliest >= end)).numpy()
    assert known.sum() > 50
    assert (new.encode(values)[known] == old.encode(values)[known]).all()


def test_the_same_classes_start_as_the_same_hasher(old, tmp_path):
    new = planned(items(tmp_path / "abd.npz", "abd"), earlier=old, **PLAN).hasher
    assert same(new, old)


def test_other_classes_take_the_backbone_and_what_is_known_by_name_and_code(old, tmp_path):
    new = planned(items(tmp_path / "bc.npz", "bc"), earlier=old, **PLAN).hasher
    assert same(new.backbone, old.backbone)
    known = rows_of(old)
    assert all(torch.equal(row, known[key]) for key, row in rows_of(new).items() if key in known)


@pytest.mark.parametrize("other", [{"bits": 16}, {"method": "hashnet"}])
def test_another_length_or_method_takes_the_backbone_alone(old, four, other):
    values = {**PLAN, **other}
    new, drawn = planned(four, earlier=old, **values).hasher, planned(four, **values).hasher
    assert same(new.backbone, old.backbone) and same(new.preprocessing, old.preprocessing)
    assert same(new.method, drawn.method)


@pytest.mark.parametrize(("d", "width"), [(5, 8), (6, 9)])
def test_what_does_not_fit_is_refused_and_nothing_is_written(before, tmp_path, d, width):
    message = (
        r"start_from must name a hasher of features \(5,\), its inputs are features \(6,\)"
        if d == 5
        else "start_from must name a hasher with the same backbone"
    )
    settings = {**SMALL, "source": str(items(tmp_path / "x.npz", "abcd", d=d)), "width": width}
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", settings, start_from=str(before))
    assert not (tmp_path / "run").exists()


def test_what_is_not_there_is_named_and_nothing_is_written(four, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run: no such file or folder"):
        train(tmp_path / "run", {**SMALL, "source": str(four)}, start_from=str(tmp_path / "no run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("bits", [15, None])
def test_a_training_starts_there_and_resumes_without_it(before, old, four, tmp_path, monkeypatch, bits):
    """Without a length given, it is the earlier one's."""
    source = shutil.copytree(before, tmp_path / "before")
    settings = {**SMALL, "source": str(four), "epochs": 3, "lr": 1e-9, "checkpoint_every": 2, "bits": bits}
    settings["start_from"] = str(source)
    whole = train(tmp_path / "whole", settings)
    assert whole.hasher.n_bits == 15
    for name, weight in whole.hasher.backbone.named_parameters():
        torch.testing.assert_close(weight, old.backbone.get_parameter(name), atol=1e-6, rtol=0)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        at_step(patch, 5, stop)
        train(tmp_path / "run", settings)
    shutil.rmtree(source)
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(whole.folder)


def test_a_saved_hasher_will_do_as_well_as_a_run(before, old, four, tmp_path):
    settings = {**SMALL, "source": str(four)}
    train(tmp_path / "1", settings, start_from=str(before))
    train(tmp_path / "2", settings, start_from=str(old.save(tmp_path / "saved")))
    assert final(tmp_path / "1")[0][0] == final(tmp_path / "2")[0][0]


@pytest.mark.parametrize(
    ("method", "values", "name"), [("dshc", {"radius": 0}, "radius"), ("dshc", {"threshold": 5}, "threshold"),
                                   ("csq", {"centers": "hadamard", "bits": 16}, "centers")]
)  # fmt: skip
def test_the_codes_are_the_earlier_ones_and_recorded_as_they_are(tmp_path, four, method, values, name):
    """A setting that is left at its default is the earlier run's; one that is given makes other codes."""
    settings = {**SMALL, "method": method, **values}
    first = train(tmp_path / "first", {"source": str(items(tmp_path / "abd.npz", "abd")), **settings})
    start = {**SMALL, "method": method, "bits": settings["bits"], "source": str(four)}
    second = train(tmp_path / "second", start, start_from=str(first.folder))
    assert second.settings[f"method.{name}"] == values[name] == getattr(second.hasher.method.settings, name)
    third = train(
        tmp_path / "third", {**start, "source": str(four)}, start_from=str(second.hasher.save(tmp_path / "h"))
    )
    assert getattr(third.hasher.method.settings, name) == values[name]
    codes = [
        getattr(run.hasher.method, "codes" if method == "dshc" else "centers") for run in (second, third)
    ]
    assert torch.equal(*codes)
