"""Trainings on pairs instead of labels: which labels come of them, what is said, what is kept, what is refused."""

import json

import numpy as np
import pytest
from known_pairs import pairs_of, same_groups
from photos import KINDS, write_photos
from training_runs import train

import dshc
from dshc.data import Dataset
from dshc.errors import InputError
from dshc.runs import RunSettings, evaluate_run, load_run
from dshc.runs.pair_sets import with_pairs
from dshc.runs.run import load_dataset

QUICK = {"epochs": 20, "bits": 12, "width": 16, "batch_size": 32, "threads": 1}


@pytest.fixture(scope="module")
def given(features, tmp_path_factory):
    """Embeddings of three classes without their labels, the labels, and a file of a third of the pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    with np.load(features) as content:
        values, labels = content["features"], content["labels"]
    np.save(folder / "items.npy", values)
    known = pairs_of(labels, known=0.3, wrong=0.02)
    low, high = np.nonzero(np.triu(known.known.toarray()))
    np.savez(folder / "pairs.npz", pairs=np.column_stack([low, high]), similar=known.known[low, high] > 0)
    return folder / "items.npy", labels, folder / "pairs.npz"


def test_classes_come_from_pairs(given, tmp_path):
    items, labels, pairs = given
    told = []
    run = train(tmp_path / "run", {"source": str(items), "pairs": str(pairs), **QUICK, "epochs": 60},
                on_event=lambda name, values: told.append((name, values)))  # fmt: skip
    assert same_groups(run.dataset.labels, labels) and run.dataset.class_names == (
        "class 0",
        "class 1",
        "class 2",
    )
    assert run.hasher.method.name == "dshc"
    assert evaluate_run(run).evaluation.mean_ap > 0.95
    text = next(values["text"] for name, values in told if name == "read")
    assert text.startswith("240 items read; 3 classes by markov from ") or " by spectral from " in text
    assert "8,428 pairs" in text and "with which they agree to 0.9" in text


def test_a_run_finds_its_labels_again_and_goes_on(given, tmp_path):
    items, _, pairs = given
    run = train(tmp_path / "run", {"source": str(items), "pairs": str(pairs), **QUICK})
    again = load_run(run.folder)
    assert np.array_equal(again.dataset.labels, run.dataset.labels) and again.split == run.split
    more = train(tmp_path / "run", {"source": str(items), **QUICK, "epochs": None}, resume=True)
    assert more.settings.data.pairs == str(pairs)


def test_a_run_on_pairs_is_not_continued_on_others(given, tmp_path):
    items, labels, pairs = given
    own = tmp_path / "pairs.npz"
    own.write_bytes(pairs.read_bytes())
    asked = {
        "source": str(items),
        "pairs": str(own),
        "method": "dpsh",
        **QUICK,
        "epochs": 2,
        "checkpoint_every": 1,
    }
    run = train(tmp_path / "run", asked)
    (run.folder / "last.safetensors").unlink()
    np.savez(own, similarity=pairs_of(labels).known.toarray() > 0)
    with pytest.raises(InputError, match="split.json: another split than the data and settings give now"):
        train(tmp_path / "run", asked, resume=True)


def test_labels_of_the_items_are_left_aside(given, features, tmp_path):
    _, labels, _ = given
    coarse = pairs_of(np.minimum(labels, 1))
    np.save(tmp_path / "pairs.npy", coarse.known.toarray() > 0)
    found = load_dataset(RunSettings.of(source=str(features), pairs=str(tmp_path / "pairs.npy")))
    assert same_groups(found.labels, np.minimum(labels, 1)) and found.n_classes == 2


def test_a_method_of_pairs_is_given_these(given, tmp_path):
    items, labels, pairs = given
    told = []
    run = train(tmp_path / "run", {"source": str(items), "pairs": str(pairs), "method": "dpsh", **QUICK, "epochs": 40},
                on_event=lambda name, values: told.append((name, values)))  # fmt: skip
    text = next(values["text"] for name, values in told if name == "read")
    assert text.startswith("240 items read; trained on 8,428 pairs") and " similar" in text
    assert run.dataset.labels is None and run.dataset.pairs is not None and run.split.protocol == "all"
    codes = run.hasher.encode(run.dataset.inputs)
    measured = dshc.evaluate(*[dshc.storage.CodeFile(codes, 12, labels=labels)] * 2)
    assert measured.mean_ap > 0.95
    # It takes labels, too, where these are asked for.
    recovered = train(tmp_path / "labels", {"source": str(items), "pairs": str(pairs), "method": "dpsh",
                                            "recover": "markov", **QUICK})  # fmt: skip
    assert recovered.dataset.pairs is None and same_groups(recovered.dataset.labels, labels)


def test_items_that_are_like_no_other_are_left_out(given, tmp_path):
    items, labels, _ = given
    matrix = pairs_of(labels).known.toarray() > 0
    matrix[[3, 7]] = matrix[:, [3, 7]] = False
    np.save(tmp_path / "pairs.npy", matrix)
    found = load_dataset(
        RunSettings.of(source=str(items), pairs=str(tmp_path / "pairs.npy"), recover="markov")
    )
    kept = np.setdiff1d(np.arange(240), [3, 7])
    assert np.array_equal(found.inputs, np.load(items)[kept]) and same_groups(found.labels, labels[kept])
    assert found.reading.line().endswith("2 items without one are left out")


def test_what_belongs_to_items_is_left_out_with_them(tmp_path):
    labels = np.arange(12) % 2
    parts = {"query": np.array([10, 11]), "train": np.arange(10)}
    dataset = Dataset("named", "features", np.eye(12, dtype=np.float32), labels, ("a", "b"), np.arange(12) >= 8,
                      tuple("abcdefghijkl"), published=parts)  # fmt: skip
    matrix = pairs_of(labels).known.toarray() > 0
    matrix[[3]] = matrix[:, [3]] = False
    np.save(tmp_path / "pairs.npy", matrix)
    settings = RunSettings.of(source="x", pairs=str(tmp_path / "pairs.npy"))
    found = with_pairs(dataset, settings)
    assert found.ids == tuple("abcefghijkl") and found.test_mask.sum() == 4 and found.published is None
    assert same_groups(found.labels, np.delete(labels, 3))
    matrix[8:] = matrix[:, 8:] = False  # the whole test part
    np.save(tmp_path / "pairs.npy", matrix)
    assert with_pairs(dataset, settings).test_mask is None
    np.save(tmp_path / "pairs.npy", pairs_of(labels).known.toarray() > 0)
    assert with_pairs(dataset, settings).published is parts


def test_several_labels_from_neighbourhoods(labelled, tmp_path):
    with np.load(labelled) as content:
        hot = content["labels"]
    np.save(tmp_path / "pairs.npy", pairs_of(hot).known.toarray() > 0)
    values = {
        "source": str(labelled),
        "pairs": str(tmp_path / "pairs.npy"),
        "method": "dshc-multilabel",
        **QUICK,
    }
    run = train(tmp_path / "run", {name: value for name, value in values.items() if name != "bits"})
    assert sorted(map(tuple, run.dataset.labels.T)) == sorted(map(tuple, hot.T))
    assert run.dataset.class_names[0] == "label 0"


def test_labels_are_recovered_once(given, monkeypatch, tmp_path):
    items, _, pairs = given
    monkeypatch.setenv("DSHC_CACHE", str(tmp_path / "cache"))
    asked = RunSettings.of(source=str(items), pairs=str(pairs))
    first = load_dataset(asked)
    (kept,) = (tmp_path / "cache" / "pair-labels").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("dshc.runs.pair_sets.labels_from_pairs", None)
        assert np.array_equal(load_dataset(asked).labels, first.labels)
    kept.write_bytes(kept.read_bytes()[:-9])  # damaged: made anew
    assert np.array_equal(load_dataset(asked).labels, first.labels)
    assert load_dataset(asked.with_values(recover="spectral")).reading != first.reading


@pytest.mark.deep
def test_a_comparison_is_of_recovered_labels(given, tmp_path):
    items, _, pairs = given
    settings = RunSettings.of(source=str(items), pairs=str(pairs), epochs=2, width=8, threads=1)
    table = dshc.compare(settings, ["dpsh", "csq"], bits=(8,), out=tmp_path / "out")
    assert [result.numbers["n_query"] for result in table.results] == [48, 48]
    other = tmp_path / "other.npy"
    np.save(other, pairs_of(given[1]).known.toarray() > 0)
    with pytest.raises(InputError, match="pairs must be '[0-9a-f]{16}' as in the comparison in"):
        dshc.compare(settings.with_values(pairs=str(other)), ["dpsh"], bits=(8,), out=tmp_path / "out")
    config = json.loads((tmp_path / "out" / table.results[0].run).parent.joinpath("trial.json").read_text())
    assert config["settings"]["data"]["recover"] == "auto"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pairs": None, "recover": "markov"}, "recover must go with pairs, got markov"),
        ({"recover": "neighbourhoods"}, "recover must be markov or spectral where pairs are missing"),
        ({"pairs": "missing.npz"}, "missing.npz: no such file"),
        ({"method": "dshc-multilabel"}, "method must be one of .* for items with one class per item, got 'dshc-multi"),
        ({"pairs": "similar.npz", "method": "dpsh"}, "dpsh must be given pairs that are not similar, too"),
        ({"recover": "guess"}, "recover must be one of auto, neighbourhoods, markov, spectral or nothing, got 'guess'"),
    ],
)  # fmt: skip
def test_what_is_refused(given, values, message, tmp_path):
    items, labels, pairs = given
    low, high = np.nonzero(np.triu(labels[:, None] == labels, 1))
    np.savez(tmp_path / "similar.npz", pairs=np.column_stack([low, high]))
    if (name := values.get("pairs")) is not None:
        values = {**values, "pairs": str(tmp_path / name)}
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", {"source": str(items), "pairs": str(pairs), **values})
    assert not (tmp_path / "run").exists()


def test_pairs_of_photos_go_by_their_names(tmp_path):
    write_photos(tmp_path / "photos", per_kind=6, side=16, kinds=KINDS[:2])
    names = [
        path.relative_to(tmp_path / "photos").as_posix() for path in (tmp_path / "photos").rglob("*.jpg")
    ]
    kinds = [name.split("/")[0] for name in names]
    lines = [f"{a},{b},{int(x == y)}" for a, x in zip(names, kinds, strict=True)
             for b, y in zip(names, kinds, strict=True) if a < b]  # fmt: skip
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    found = load_dataset(
        RunSettings.of(source=str(tmp_path / "photos"), pairs=str(tmp_path / "pairs.csv"), image_size=8)
    )
    own = np.array([name.split("/")[0] for name in found.ids])
    assert same_groups(found.labels, np.unique(own, return_inverse=True)[1])


def test_settings_without_pairs_are_what_they_were():
    """As a version that knew no pairs had it: its runs and comparisons are found again."""
    assert RunSettings.of(source="digits", bits=30).fingerprint() == "266ce7592175574e"
