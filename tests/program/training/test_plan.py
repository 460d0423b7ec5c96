"""What a plan decides: equal batches, stages, and what does not fit the data."""

import numpy as np
import pytest
import torch
from training_plans import planned, write_features

from dshc.data import Dataset
from dshc.training.plan import label_kind

SMALL = {"epochs": 3, "bits": 8, "validation": 0.0, "width": 8}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("plan") / "features.npz", counts=(51, 50))


@pytest.mark.parametrize("asked", [3, 7, 10, 50, 51, 100, 101, 102, 1000])
def test_batches_are_of_one_size_and_at_most_the_one_asked_for(source, asked):
    plan = planned(source, **SMALL, batch_size=asked)
    assert plan.batch_size <= asked and plan.n_steps == -(-101 // asked)
    # As few are left over as equal batches allow.
    assert 0 <= 101 - plan.n_steps * plan.batch_size < plan.n_steps
    assert (plan.n_total, plan.n_epochs) == (3 * plan.n_steps, 3)
    assert (
        plan.stage_at(0) == plan.stage_at(plan.n_total - 1) == "train"
        and plan.stage_at(plan.n_total) == "end"
    )


def test_a_method_that_is_only_fitted_has_no_steps(source):
    plan = planned(source, **{**SMALL, "bits": 6}, method="itq")
    assert plan.stages == () and (plan.n_total, plan.n_epochs) == (0, 0)


def test_weights_are_drawn_from_the_seed_alone(source):
    first = planned(source, **SMALL)
    torch.manual_seed(99)
    again, other = planned(source, **SMALL), planned(source, **SMALL, seed=1)
    states = [plan.hasher.state_dict() for plan in (first, again, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["method.head.weight"], states[2]["method.head.weight"])


def test_normalised_by_the_training_items_unless_asked_not_to(source):
    plan = planned(source, **SMALL)
    values = plan.batches.batch(torch.from_numpy(plan.split.train))
    torch.testing.assert_close(values.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.std(0, correction=0), torch.ones(6), atol=1e-5, rtol=0)
    plain = planned(source, **SMALL, standardize=False)
    with np.load(source) as file:
        rows = torch.from_numpy(file["features"][plan.split.train])
    assert torch.equal(plain.batches.batch(torch.from_numpy(plan.split.train)), rows)


def test_a_network_of_timm_for_embeddings_is_refused(source):
    for more in ({"pretrained": True}, {}):
        with pytest.raises(ValueError, match=r"backbone must be mlp or identity for items of shape \(6,\)"):
            planned(source, **{**SMALL, "width": None}, backbone="timm:resnet18", **more)


def test_labels_decide_which_methods_fit(source, labelled):
    with pytest.raises(
        ValueError, match="method must be one of .* for items with one class per item, got 'dshc-m"
    ):
        planned(source, **SMALL, method="dshc-multilabel")
    message = "method must be one of .*dshc-multilabel.* for items with several labels per item, got 'dshc'"
    with pytest.raises(ValueError, match=message):
        planned(labelled, epochs=1)


def test_the_kind_of_labels():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    for labels, kind in (
        (np.array([0, 1, 0, 1]), "ids"),
        (np.ones((4, 2), np.uint8), "multi-hot"),
        (None, "none"),
    ):
        assert (
            label_kind(Dataset("x", "images", images, labels, ("a", "b") if labels is not None else ()))
            == kind
        )
