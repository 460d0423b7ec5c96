"""What training refuses, and that nothing is written before."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from training_runs import SMALL, contents, final, train

import dshc
from dshc.errors import InputError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 9, "construction": "cpbc"}, "n_bits must be at least one per class for cpbc"),
        ({"topk": 311}, "topk must be at most 310"),
        (
            {"method": "dshc-multilabel"},
            "method must be one of dshc, .* for items with one class per item, got 'dshc-multilabel'",
        ),
        ({"method": "nothing"}, "method must be one of dshc, .*, got 'nothing'"),
        (
            {"backbone": "mlp"},
            "backbone must be small_net, conv_net, identity or timm:NAME for items of shape .*, got 'mlp'",
        ),
        ({"protocol": "cifar10-full"}, "cifar10-full"),
        ({"source": "no-such-set"}, "no-such-set"),
        ({"optimizer": "muon"}, "'muon' must have a 2-d weight of a linear layer in the backbone"),
        ({"start_from": "no/such/run"}, "no/such/run"),
        ({"weights": "w.pth"}, "weights must go with a backbone timm:NAME"),
    ],
)
def test_nothing_is_written_for_settings_that_cannot_be(tmp_path, settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(tmp_path / "run", SMALL, **settings)
    assert not (tmp_path / "run").exists()


def test_a_balanced_sampler_is_refused_for_several_labels_an_item(tmp_path, labelled):
    settings = {"source": str(labelled), "method": "dshc-multilabel", "sampler": "balanced"}
    with pytest.raises(ValueError, match="sampler 'balanced' must be given one class per item"):
        train(tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_longer_finite_ends_the_run(tmp_path):
    message = r"lr must be lower than 1e\+30: the loss is (nan|inf) in epoch 1"
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", lr=1e30)


def test_weights_that_diverge_in_the_last_step_are_blamed_on_the_rate(features, tmp_path):
    settings = {"optimizer": "sgd", "lr": 1e30, "epochs": 2, "batch_size": 1000, "bits": 9}
    message = r"lr must be lower than 1e\+30: the sum of the outputs is (nan|inf|-inf) in epoch 1"
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", {"source": str(features), **settings})


@pytest.mark.parametrize(("n_items", "batch_size"), [(40, 1), (5, 2)])
def test_batches_of_one_are_refused(tmp_path, n_items, batch_size):
    path = tmp_path / "few.npz"
    values = np.random.default_rng(0).normal(size=(n_items, 3)).astype(np.float32)
    np.savez(path, features=values, labels=np.arange(n_items) % 2, n_train=n_items - 2)
    with pytest.raises(
        ValueError, match=f"batch_size must .* got {batch_size}, which cuts {n_items - 2} training"
    ):
        train(tmp_path / "run", {"source": str(path), "batch_size": batch_size, "bits": 9, "validation": 0.0})
    assert not (tmp_path / "run").exists()


def test_images_too_small_are_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "tiny.npz"
    np.savez(path, x=np.zeros((40, 3, 3, 1), np.uint8), labels=np.arange(40) % 2)
    with pytest.raises(ValueError, match="image_size must be one that small_net accepts, got 3x3"):
        train(tmp_path / "run", {"source": str(path)})
    assert not (tmp_path / "run").exists()


def test_refused_in_a_run_it_is_left_as_it_is(copy):
    before = contents(copy)
    with pytest.raises(ValueError, match="topk must be at most 310"):
        train(copy, topk=311, overwrite=True)
    assert contents(copy) == before


def test_a_method_that_refuses_the_items_leaves_nothing(tmp_path):
    np.savez(tmp_path / "few.npz", features=np.eye(8, 16, dtype=np.float32), labels=np.arange(8) % 2)
    with pytest.raises(ValueError, match="items"):
        dshc.train(tmp_path / "few.npz", method="itq", bits=12, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_taken_is_told_before_the_data_are_read(copy, monkeypatch):
    def read(*_, **__):
        raise AssertionError("the data were read")

    monkeypatch.setattr("dshc.data.load", read)
    with pytest.raises(ValueError, match="holds a run"):
        dshc.train("digits", out=copy)


def settings_of(features):
    return {"source": str(features), "epochs": 2, "threads": 1, "bits": 9}


def test_resuming_with_what_was_left_open(features, tmp_path):
    """What is not given is the run's own, also where a default is another value."""
    own = {**settings_of(features), "validation": 0.2, "method": "csq", "bits": 8, "lr": 0.01, "eta": 0.1}
    want = train(tmp_path / "run", own)
    again = dshc.train(str(features), out=tmp_path / "run", resume=True)
    assert again.settings == want.settings
    assert (
        dshc.train(str(features), out=tmp_path / "run", resume=True, bits=8, eta=0.1).settings
        == want.settings
    )
    for more, message in (
        ({"validation": 0.1}, "validation must be 0.2 as in the run"),
        ({"method": "dshc"}, "name must be 'csq' as in the run"),
        ({"bits": 16}, "bits must be 8 as in the run"),
        ({"optim.lr": 0.5}, "lr must be 0.01 as in the run"),
        ({"topk": 1}, "topk is a setting of method dshc"),
        ({"method": "hashnet", "gamma": 0.01}, "name must be 'csq' as in the run"),
    ):
        with pytest.raises(InputError, match=message):
            dshc.train(str(features), out=tmp_path / "run", resume=True, **more)


def test_resuming_with_other_features(features, tmp_path):
    path = tmp_path / "mine.npz"
    shutil.copy(features, path)
    train(tmp_path / "run", settings_of(path))
    (tmp_path / "run" / "last.safetensors").unlink()
    with np.load(path) as content:
        np.savez(path, features=content["features"][:, ::-1] * 5, labels=content["labels"])
    with pytest.raises(
        InputError, match="mine.npz: must hold the features that the run in .* began with, got others"
    ):
        train(tmp_path / "run", settings_of(path), resume=True)


def test_what_a_training_starts_from_is_not_replaced(features, tmp_path):
    train(tmp_path / "run", settings_of(features))
    kept = contents(tmp_path / "run")
    for start in (tmp_path / "run", tmp_path / "run" / "best.safetensors"):
        with pytest.raises(InputError, match="must not hold what the training starts from"):
            train(tmp_path / "run", settings_of(features), start_from=str(start), overwrite=True)
    assert contents(tmp_path / "run") == kept
    # Beside a run to be, nothing is replaced.
    shutil.move(tmp_path / "run", tmp_path / "project" / "old")
    train(tmp_path / "project", settings_of(features), start_from=str(tmp_path / "project" / "old"))
    assert contents(tmp_path / "project" / "old") == kept


def test_a_file_that_is_called_as_a_named_set(features, tmp_path):
    path = tmp_path / "digits.npz"
    shutil.copy(features, path)
    assert train(tmp_path / "run", settings_of(path)).split.protocol == "random"


def test_a_training_of_one_step_trains(features, tmp_path):
    run = train(tmp_path / "run", {**settings_of(features), "epochs": 1, "batch_size": 1000})
    assert run.metrics[0]["lr"] > 0


def test_trainings_in_threads_are_those_alone(features, tmp_path):
    """Each draws from torch's one generator."""
    settings = {**settings_of(features), "backbone": "mlp", "epochs": 3}
    want = [final(train(tmp_path / f"alone-{seed}", settings, seed=seed).folder) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda seed: train(tmp_path / f"both-{seed}", settings, seed=seed), (0, 1)))
    for run, one in zip(runs, want, strict=True):
        assert [state for state, _ in final(run.folder)] == [state for state, _ in one]


def test_hashnet_that_overflows(features, tmp_path):
    settings = {**settings_of(features), "method": "hashnet", "gamma": 1e40, "power": 10, "beta_every": 1}
    with pytest.raises(ValueError, match="gamma and power must leave the sharpness a finite number"):
        train(tmp_path / "run", settings)


@pytest.mark.parametrize("more", [{"sub_codes": 2}, {"radius": 2}])
def test_the_papers_target_is_for_the_papers_codes(features, tmp_path, more):
    settings = {**settings_of(features), "target": "paper", "construction": "cpbc", **more}
    with pytest.raises(ValueError, match="target must be 'normalized' with sub_codes or another radius"):
        train(tmp_path / "run", settings)


@pytest.mark.parametrize("out", ["", "a\0b"])
def test_a_folder_without_a_name(out):
    with pytest.raises(InputError, match="out must be the path of a folder, got"):
        dshc.train("digits", out=out)
