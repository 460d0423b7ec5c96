"""Comparisons: every method alike, nothing trained twice, a failure that costs one row, numbers that are the runs'."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from training_runs import environment

import dshc
from dshc.errors import InputError
from dshc.experiment import ComparisonTable, Grid
from dshc.experiment.comparison_table import results_of
from dshc.experiment.contestants import contestants
from dshc.experiment.trial import Trial
from dshc.experiment.workshop import workshop
from dshc.runs import RunSettings, evaluate_run, load_run

SMALL = {"epochs": 2, "threads": 1, "batch_size": 48, "width": 8}


def settings(source, **more):
    return RunSettings.of(source=str(source), **{**SMALL, **more})


def compared(source, out, methods=("hashnet", "itq"), bits=(8,), **options):
    values = options.pop("values", {})
    return dshc.compare(settings(source, **values), list(methods), bits=bits, out=out, **options)


@pytest.fixture(scope="module")
def small(features, tmp_path_factory):
    """A comparison of two methods with a grid and two seeds; tests only read it."""
    out, told = tmp_path_factory.mktemp("comparison"), []
    grid = Grid(lr=(0.5, 1.0), weight=(1.0,))
    table = compared(features, out, bits=(8, 4), seeds=2, seeds_at=(8,), grid=grid, tell=told.append)
    return out, table, told


def test_rows_are_by_method_and_length(small):
    _, table, _ = small
    assert [(g.label, g.bits, len(g.results)) for g in table.groups] == [
        ("hashnet", 4, 1),
        ("hashnet", 8, 2),
        ("itq", 4, 1),
        ("itq", 8, 2),
    ]
    assert len(table.columns()) == len(table.rows()[0])


def test_numbers_are_those_of_the_runs(small):
    out, table, _ = small
    for result in table.results:
        run = load_run(out / result.run)
        found = evaluate_run(run, out=out / "again").evaluation
        assert found.mean_ap == result.numbers["mean_ap"] and found.n_bits == result.bits
        assert result.numbers["split"] == run.split.checksum and run.settings.runtime.seed == result.seed
        assert result.numbers["cosine_map"] == pytest.approx(
            dshc.evaluate_outputs(
                run.hasher.method.relaxed(run.hasher.outputs(run.dataset.inputs[run.split.query])),
                run.hasher.method.relaxed(run.hasher.outputs(run.dataset.inputs[run.split.database])),
                run.dataset.labels[run.split.query],
                run.dataset.labels[run.split.database],
            ).mean_ap
        )


def test_the_best_of_the_grid_by_validation_is_what_is_measured(small):
    out, table, _ = small
    tuning = next(t for t in table.tunings if t.label == "hashnet")
    values = [value for _, value in tuning.tried]
    assert len(values) == 2 and tuning.chosen == tuning.tried[values.index(max(values))][0]
    for result in table.results:
        if result.label == "hashnet":
            assert load_run(out / result.run).settings.optim.lr == tuning.chosen["optim.lr"]
    assert next(t for t in table.tunings if t.label == "itq").tried == ()


def test_nothing_is_done_twice(small, features):
    out, table, told = small
    again = []
    grid = Grid(lr=(0.5, 1.0), weight=(1.0,))
    same = compared(features, out, bits=(4, 8), seeds=2, seeds_at=(8,), grid=grid, tell=again.append)
    assert same == table and told and not again


def test_what_is_written_is_what_was_found(small):
    out, table, _ = small
    assert ComparisonTable.load(out) == table
    text = (out / "table.md").read_text()
    assert text == table.to_markdown() and "Conventions: mAP@all" in text
    assert all(f"| {cell} |" in text for cell in table.rows()[0][:3])
    assert json.loads((out / "table.json").read_text())["facts"]["seeds"] == 2


@pytest.mark.deep
def test_weights_that_lost_are_removed_and_come_back_when_asked_for(small, features, tmp_path):
    out = shutil.copytree(small[0], tmp_path / "copy")  # what is asked for changes its table
    losers = [p for p in (out / "runs").iterdir() if not (p / "run").is_dir()]
    assert len(losers) == 1 and (losers[0] / "trained.json").is_file()
    point = Trial.read(losers[0]).settings
    told = []
    again = compared(features, out, methods=("hashnet",), values={"lr": point.optim.lr}, tell=told.append)
    assert len(told) == 1 and (losers[0] / "run").is_dir() and again.results[0].numbers is not None


@pytest.mark.deep
def test_a_method_that_fails_costs_its_own_row(features, tmp_path):
    table = compared(features, tmp_path, methods=("itq", "hashnet"), bits=(13, 8))
    rows = {(g.label, g.bits): g for g in table.groups}
    assert "bits must be at most 12" in rows["itq", 13].failures[0]  # of 12 features
    assert "failed" in table.rows()[1][2] and rows["itq", 8].failures == ()
    assert rows["hashnet", 13].results[0].numbers is not None
    told = []
    compared(features, tmp_path, methods=("itq",), bits=(13,), tell=told.append)
    assert len(told) == 1 and "failed" in told[0]  # tried again


@pytest.mark.deep
def test_a_training_that_is_killed_costs_its_own_row(features, tmp_path):
    trial = Trial("itq", settings(features, method="itq", bits=4), tmp_path)
    with workshop() as shop:
        trial.write()
        shop._say({"folder": str(trial.folder), "measure": True})
        pid = None
        while pid is None:
            pid = (shop._answer() or {}).get("pid")
        os.kill(pid, signal.SIGKILL)
        answer = None
        while answer is None:
            answer = shop._answer()
        assert answer == {"pid": pid, "code": -signal.SIGKILL}
        shop.run(trial, measure=True)  # the server is well
    assert trial.failure() is None and trial.measured() is not None


def test_other_data_is_refused(small, tmp_path):
    out, _, _ = small
    rng = np.random.default_rng(5)
    np.savez(tmp_path / "features.npz", features=rng.normal(size=(240, 12)), labels=np.arange(240) % 3)
    with pytest.raises(InputError, match="digest must be .* as in the comparison in"):
        compared(tmp_path / "features.npz", out)


def test_other_labels_are_other_data(small, features, tmp_path):
    content = dict(np.load(features))
    content["labels"] = np.roll(content["labels"], 1)
    np.savez(tmp_path / "features.npz", **content)
    with pytest.raises(InputError, match="labels must be '.*' as in the comparison in .*, got '"):
        compared(tmp_path / "features.npz", small[0])


@pytest.mark.deep
def test_other_weights_to_start_from_are_refused(features, tmp_path):
    for seed in (0, 1):
        dshc.train(settings(features, bits=8), seed=seed, out=tmp_path / str(seed))
    values = {"start_from": str(tmp_path / "run")}
    shutil.copytree(tmp_path / "0", tmp_path / "run")
    compared(features, tmp_path / "out", ("hashnet",), values=values)
    shutil.rmtree(tmp_path / "run")
    shutil.copytree(tmp_path / "1", tmp_path / "run")
    with pytest.raises(InputError, match="start_from must be '.*' as in the comparison in .*, got '"):
        compared(features, tmp_path / "out", ("hashnet",), values=values)


@pytest.mark.deep
def test_a_folder_of_an_earlier_version_does_not_say_its_labels(features, tmp_path):
    table = compared(features, tmp_path, ("itq",))
    held = json.loads((tmp_path / "comparison.json").read_text())
    for name in ("labels", "start_from", "weights"):
        del held[name]
    (tmp_path / "comparison.json").write_text(json.dumps(held))
    assert compared(features, tmp_path, ("itq",)).rows() == table.rows()


def test_fewer_items_are_other_data(small, features):
    with pytest.raises(InputError, match="train_per_class must be None as in the comparison in .*, got 9"):
        compared(features, small[0], values={"train_per_class": 9})


@pytest.mark.deep
def test_the_grid_goes_on_past_an_edge(features, tmp_path):
    told, counted = [], []
    table = compared(
        features,
        tmp_path,
        ("dshc:construction=separated:rounding=dithered",),
        grid=Grid(lr=(1.0,), weight=(1.0, 3.0), widen=1),
        tell=told.append,
        progress=lambda *at: counted.append(at),
    )
    (tuning,) = table.tunings
    assert len(tuning.tried) == 3 and counted[-1] == (4, 4)
    assert {p["method.temperature"] for p, _ in tuning.tried} in ({0.333, 1.0, 3.0}, {1.0, 3.0, 9.0})
    best = max(value for _, value in tuning.tried)
    assert dict(tuning.chosen) == next(point for point, value in tuning.tried if value == best)


@pytest.mark.deep
def test_what_another_comparison_chose_is_taken_over(small, features, tmp_path):
    out, table, _ = small
    chosen = table.tunings[0].chosen
    methods = ("hashnet", "hashnet:lr=0.007", "itq")
    again = compared(features, tmp_path / "more", methods, tuned=out, values={"train_per_class": 40})
    assert [t.tried for t in again.tunings] == [(), (), ()]
    assert [t.chosen.get("optim.lr") for t in again.tunings] == [chosen["optim.lr"], None, None]
    rates = [load_run(tmp_path / "more" / r.run).settings.optim.lr for r in again.results]
    assert rates[:2] == [chosen["optim.lr"], 0.007]
    assert "taken from another comparison" in again.to_markdown()
    with pytest.raises(InputError, match="tuned must be a comparison with csq, .* has hashnet, itq"):
        compared(features, tmp_path / "other", ("csq",), tuned=out)
    with pytest.raises(InputError, match=r"tuned must be the folder of a comparison, got .*no table\.json"):
        compared(features, tmp_path / "other", tuned=tmp_path)
    with pytest.raises(InputError, match="grid must be None with tuned=.*, which brings the choices"):
        compared(features, tmp_path / "other", tuned=out, grid=Grid())


@pytest.mark.deep
def test_unseen_classes_are_told_apart(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 5
    values = rng.normal(size=(300, 12)) + 4 * np.eye(5, 12)[labels]
    np.savez(tmp_path / "five.npz", features=values.astype(np.float32), labels=labels)
    values = {"unseen_classes": 2, "protocol": "random"}
    table = compared(
        tmp_path / "five.npz", tmp_path / "out", methods=("hashnet", "itq"), seeds=2, values=values
    )
    assert table.query_groups == ("classes seen in training", "unseen classes")
    assert (
        len(table.columns()) == len(table.rows()[0]) and table.columns()[3] == "mAP, classes seen in training"
    )
    for result in table.results:
        run = load_run(tmp_path / "out" / result.run)
        found = evaluate_run(run, out=tmp_path / "again", per_query=True).evaluation
        seen = np.isin(labels[run.split.query], labels[run.split.train])
        assert (~seen).sum() == 24 and len(np.unique(labels[run.split.train])) == 3
        assert found.groups["unseen classes"] == (24, found.per_query[~seen].mean())
        assert result.numbers["groups"] == {name: value for name, (_, value) in found.groups.items()}


def test_a_folder_with_something_else_is_left_alone(features, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="out must be an empty folder or one with a comparison, got"):
        compared(features, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".lock") == ["thesis.txt"]


def test_factors_must_be_numbers_above_0():
    for factors in ((), (0.0,), (1.0, 1.0), (float("inf"),)):
        with pytest.raises(InputError, match="lr factors must be different numbers above 0"):
            Grid(lr=factors)


def test_all_stands_for_every_method_that_takes_the_labels(features, labelled):
    data = dshc.load_data(str(features))
    found = contestants(RunSettings(), ["dshc:topk=0", "all"], data)
    labels = [c.label for c in found]
    assert labels[0] == "dshc:topk=0" and found[0].settings.method.topk == 0
    assert "dshc" in labels and "itq" in labels and "dshc-multilabel" not in labels
    assert "dshc-multilabel" in [
        c.label for c in contestants(RunSettings(), ["all"], dshc.load_data(str(labelled)))
    ]


@pytest.mark.deep
def test_one_network_for_all_lengths(features, tmp_path):
    table = compared(features, tmp_path, methods=("dshc", "hashnet", "itq"), bits=(4, 8), nested=True)
    rows = {(g.label, g.bits): g.results[0] for g in table.groups}
    nested = ("dshc, nested", "hashnet, nested")
    assert set(rows) == {(label, bits) for label in (*nested, "itq") for bits in (4, 8)}
    for label in nested:
        assert rows[label, 4].run == rows[label, 8].run
        run = load_run(tmp_path / rows[label, 4].run)
        hasher, data, split = run.hasher, run.dataset, run.split
        codes = [hasher.encode(data.inputs[items]) & 0x0F for items in (split.query, split.database)]
        labels = [data.labels[items] for items in (split.query, split.database)]
        found = dshc.evaluate(*codes, *labels, n_bits=4).mean_ap
        assert rows[label, 4].numbers["mean_ap"] == found


@pytest.mark.deep
def test_post_processed_codes_have_rows_of_their_own(features, tmp_path):
    table = compared(features, tmp_path, methods=("hashnet",), postprocessing=("itq", "thresholds"))
    assert [g.label for g in table.groups] == ["hashnet", "hashnet + itq", "hashnet + thresholds"]
    plain, rotated, balanced = (g.results[0].numbers for g in table.groups)
    assert balanced["bit_entropy"] > plain["bit_entropy"] - 0.05 and rotated["mean_ap"] != plain["mean_ap"]
    run = load_run(tmp_path / table.results[0].run)
    again = evaluate_run(run, out=tmp_path / "again").evaluation.mean_ap
    assert again == plain["mean_ap"]  # what was found afterwards is no part of the run


@pytest.mark.deep
def test_several_labels_per_item(labelled, tmp_path):
    # A bit per label: its own length, five here, whatever is asked for.
    methods = ("dshc-multilabel", "itq")
    table = compared(labelled, tmp_path, methods=methods, bits=(4, 8), seeds=2, seeds_at=(4,))
    assert all(r.numbers is not None for r in table.results)
    found = [(g.label, g.bits, len(g.results)) for g in table.groups]
    assert found == [("dshc-multilabel", 5, 2), ("itq", 4, 2), ("itq", 8, 1)]
    assert {"score=overlap", "score=hamming"} == {c.split(", ")[3] for c in table.conventions}


@pytest.mark.deep
def test_several_at_a_time_come_to_the_same(small, features, tmp_path):
    _, one_by_one, _ = small
    grid, told = Grid(lr=(0.5, 1.0), weight=(1.0,)), []
    table = compared(
        features, tmp_path, bits=(8, 4), seeds=2, seeds_at=(8,), grid=grid, jobs=3, tell=told.append
    )
    assert len(told) == 8 and [t.chosen for t in table.tunings] == [t.chosen for t in one_by_one.tunings]
    for found, known in zip(table.results, one_by_one.results, strict=True):
        assert (found.label, found.bits, found.seed, found.run) == (
            known.label,
            known.bits,
            known.seed,
            known.run,
        )
        for name in ("mean_ap", "cosine_map", "distinct", "split"):
            assert found.numbers[name] == known.numbers[name]
    assert "Trained 3 at a time." in table.to_markdown()
    assert "at a time" not in one_by_one.to_markdown()


@pytest.mark.deep
@pytest.mark.parametrize("long", [("hashnet",), ("hashnet", "dpsh")], ids=["one", "two at a time"])
def test_an_interrupted_comparison_goes_on(features, tmp_path, long):
    flags = f"--bits 8 --no-tune --no-run-reports --epochs 4000 --threads 1 --jobs {len(long)}"
    program = [sys.executable, "-m", "dshc", "compare", str(features), "--methods", ",".join(("itq", *long))]
    program += [*flags.split(), "--out", str(tmp_path / "out")]
    with (tmp_path / "err.txt").open("w") as err:
        child = subprocess.Popen(program, env=environment(), stdout=subprocess.DEVNULL, stderr=err)
    runs, deadline = tmp_path / "out" / "runs", time.monotonic() + 90

    def begun():
        logs = [path for name in long for path in runs.glob(f"{name}*/run/metrics.jsonl")]
        return sum(path.stat().st_size > 0 for path in logs) == len(long)

    while not begun() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 128 + signal.SIGTERM, (tmp_path / "err.txt").read_text()
    assert "the same command goes on" in (tmp_path / "err.txt").read_text()
    assert list(runs.glob("itq*/measured.json"))
    for name in long:
        (stopped,) = runs.glob(f"{name}*")
        assert not (stopped / "trained.json").exists() and not (stopped / "failed.json").exists()
        assert 1 <= len((stopped / "run" / "metrics.jsonl").read_text().splitlines()) < 4000


def test_a_nested_training_that_fails_stands_with_its_kind(features, tmp_path):
    """In the rows of every length that it would have given."""
    values = {"method.lengths": "4", "method.bits": 8}
    trial = Trial("hashnet", settings(features, method="hashnet").with_values(**values), tmp_path)
    trial.write()
    trial.keep_failure("the disk is full")
    found = results_of(trial)
    assert [(r.label, r.bits, r.failure) for r in found] == [
        ("hashnet, nested", 4, "the disk is full"),
        ("hashnet, nested", 8, "the disk is full"),
    ]
