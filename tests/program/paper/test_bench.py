"""An experiment's bench: a step is done once, known by all it depends on, and goes on where it was stopped."""

import json

import numpy as np
import pytest
from training_runs import final

from dshc import train as real_train
from dshc.errors import InputError
from dshc.machine import made_on
from dshc.paper import Bench, cifar10, cifar100, multilabel, others, pairs
from dshc.runs import RunSettings


def test_a_step_is_done_once(tmp_path):
    told, done = [], []

    def make():
        done.append(1)
        return {"value": 3}

    bench = Bench(tmp_path, tell=told.append)
    first = bench.step("counting", {"n": 1}, make)
    again = Bench(tmp_path).step("counting", {"n": 1}, make)
    assert first == again and first["value"] == 3 and first["seconds"] > 0 and len(done) == 1
    assert (
        [m["commit"] for m in bench.machines] == [made_on()["commit"]]
        and bench.seconds == first["seconds"]
        and told == [f"counting: {first['seconds']:.1f} s"]
    )
    assert bench.step("counting", {"n": 2}, make)["value"] == 3 and len(done) == 2
    kept = sorted((tmp_path / "steps").iterdir())
    assert [json.loads(path.read_text())["result"]["value"] for path in kept] == [3, 3]


def test_a_step_that_fails_is_not_kept(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Bench(tmp_path).step("dividing", {}, lambda: {"value": 1 / 0})
    assert Bench(tmp_path).step("dividing", {}, lambda: {"value": 1})["value"] == 1


def test_a_damaged_step_is_named(tmp_path):
    Bench(tmp_path).step("one", {}, lambda: {})
    (path,) = (tmp_path / "steps").iterdir()
    path.write_text("{")
    with pytest.raises(InputError, match="damaged; remove it, and the step is done again"):
        Bench(tmp_path).step("one", {}, lambda: {})


def test_a_training_is_done_once_and_known_by_what_its_files_hold(features, tmp_path, monkeypatch):
    settings = RunSettings.of(source=str(features), epochs=1, bits=9, width=8)
    bench = Bench(tmp_path, threads=1)
    run = bench.train("one", settings, {"file": "a"})
    assert run.settings.runtime.threads == 1
    other = bench.train("one", settings, {"file": "b"})
    assert other.folder != run.folder
    with monkeypatch.context() as patch:
        patch.setattr("dshc.paper.bench.train", None)
        again = bench.train("one", settings, {"file": "a"})
    assert again.folder == run.folder and again.digest == run.digest


def test_a_training_is_known_by_what_its_data_hold_wherever_they_lie(features, tmp_path):
    place = tmp_path / "data" / "set.npz"
    place.parent.mkdir()
    place.write_bytes(features.read_bytes())
    folder = tmp_path / "bench"

    def trained(place):
        return Bench(folder, threads=1).train(
            "one", RunSettings.of(source=str(place), epochs=1, bits=9, width=8)
        )

    run = trained(place)
    moved = trained(place.rename(tmp_path / "moved.npz"))
    assert moved.folder == run.folder and moved.dataset.n_items == 240
    with np.load(features) as held:
        content = dict(held)
    for name in content:
        changed = {**content, name: content[name].copy()}
        changed[name][:2] = changed[name][1::-1]  # of the labels, and of the items
        changed[name][0] = changed[name][-1]
        np.savez(tmp_path / "moved.npz", **changed)
        assert trained(tmp_path / "moved.npz").folder != run.folder, name


def test_a_network_that_steps_start_from_takes_time_too(features, tmp_path):
    settings = RunSettings.of(source=str(features), epochs=2, bits=9, width=8)
    bench = Bench(tmp_path, threads=1)
    run = bench.network("one", settings)
    took = sum(row["seconds"] for row in run.metrics)
    assert bench.seconds >= took > 0 and len(bench.machines) == 1
    again = Bench(tmp_path, threads=1)
    assert again.network("one", settings).folder == run.folder and again.seconds == bench.seconds


def test_a_stopped_training_goes_on(features, tmp_path, monkeypatch):
    settings = RunSettings.of(source=str(features), epochs=3, bits=9, width=8, checkpoint_every=1)
    whole = Bench(tmp_path / "whole", threads=1).train("one", settings)
    with monkeypatch.context() as patch:
        patch.setattr("dshc.paper.bench.train", lambda s, **more: real_train(s, on_event=stop_at(4), **more))
        with pytest.raises(Stopped):
            Bench(tmp_path / "bench", threads=1).train("one", settings)
    resumed = []
    monkeypatch.setattr(
        "dshc.paper.bench.train",
        lambda s, **more: real_train(s, on_event=lambda name, _: resumed.append(name), **more),
    )
    run = Bench(tmp_path / "bench", threads=1).train("one", settings)
    assert "resume" in resumed and final(run.folder) == final(whole.folder)


class Stopped(Exception):
    """Raised in the middle of a training."""


def stop_at(checkpoint):
    seen = []

    def tell(name, _):
        seen.append(name)
        if seen.count("checkpoint") == checkpoint:
            raise Stopped

    return tell


def test_sets_by_name_and_by_place(tmp_path):
    bench = Bench(tmp_path, {"ucm": "/photos", "cifar10": "/data"})
    assert bench.settings("ucm", bits=32).data.source == "/photos"
    cifar = bench.settings("cifar10").data
    assert (cifar.source, cifar.root) == ("cifar10", "/data")
    assert Bench(tmp_path).settings("digits").data.root is None
    with pytest.raises(InputError, match="data must say where the images of ucm are: --data ucm=FOLDER"):
        Bench(tmp_path).settings("ucm")


def test_features_of_a_frozen_network(tmp_path):
    pytest.importorskip("timm")
    from photos import KINDS, write_photos

    write_photos(tmp_path / "photos", per_kind=4, side=16, kinds=KINDS[:2])
    bench = Bench(tmp_path / "bench", {"shapes": str(tmp_path / "photos")}, threads=1)
    features, dataset = bench.features("shapes", image_size=32)
    assert features.shape[0] == dataset.n_items == 8 and features.dtype == np.float32 and features.std() > 0
    assert dataset.n_classes == 2


def test_every_setting_of_an_experiment_is_one(tmp_path):
    places = {
        name: "/photos" for name in ("ucm", "ucm-multilabel", "scene", "corel5k", "corel16k001", "nuswide")
    }
    bench = Bench(tmp_path, {**places, "cifar10": "/data", "cifar100": "/data"})
    for recipe in cifar10.RECIPES:
        cifar10.settings(bench, recipe)
    bench.settings("cifar10", **{**cifar10.ALL, **cifar10.REDUCED})
    bench.settings("cifar100", **cifar100._NETWORK)
    bench.settings("cifar100", construction="cpbc", bits=100, start_from="/run", **cifar100._HEAD)
    for method in others.METHODS:
        asked = bench.settings("cifar10", method=method, bits=30, **others._ALL, **others.OWN[method])
        assert asked.optim.epochs == others._ALL["epochs"]
    for plan in (multilabel._PHOTOS, multilabel._FEATURES, multilabel._NUSWIDE):
        for name in plan.data:
            for method in ("dshc-multilabel", *multilabel.OTHERS):
                bench.settings(name, method=method, **plan.values)
    for plan in (pairs._CIFAR10, pairs._UCM):
        for method, own in pairs.METHODS.items():
            bench.settings(plan.data, method=method, bits=plan.bits, **plan.values, **own)
        bench.settings(plan.data, method="lsh", bits=8, finetune="none", **plan.encoder)
