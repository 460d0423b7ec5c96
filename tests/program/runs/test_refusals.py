"""What training refuses, and that nothing is written before."""

import numpy as np
import pytest
from training_runs import SMALL, contents, train

import dshc


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
    message = r"lr must be lower than 1e\+30: the sum of the outputs is (nan|inf|-inf) in epoch 2"
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
