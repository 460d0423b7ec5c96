"""Small sets count steps, not epochs."""

from __future__ import annotations

import pytest
from small_sets import images, vectors

from dshc import methods
from dshc.runs import RunSettings
from dshc.runs.recipes import BY_DATA_SET, BY_KIND, LEAST_STEPS

of = RunSettings.of


def steps(settings, n):
    return settings.optim.epochs * max(1, round(0.7 * n / settings.optim.batch_size))


@pytest.mark.parametrize("n", [10, 70, 300, 1000])
@pytest.mark.parametrize("values", [{}, {"batch_size": 16}], ids=str)
def test_small_sets_count_steps(n, values):
    for kind, dataset in (("images", images(n)), ("features", vectors(n))):
        settings = of(source="x", **values).resolved(dataset)
        least = LEAST_STEPS[kind]
        per_epoch = max(1, round(0.7 * n / settings.optim.batch_size))
        assert least <= steps(settings, n)
        # No more than it takes, unless the recipe's epochs are more anyway.
        assert steps(settings, n) < least + per_epoch or settings.optim.epochs in (30, 40)


@pytest.mark.parametrize("finetune", ["none", "last", "all"])
def test_small_sets_of_photos_count_steps_by_what_is_trained(finetune):
    values = {"backbone": "timm:resnet18", "pretrained": True, "finetune": finetune}
    settings = of(source="x", **values).resolved(images(100))
    assert LEAST_STEPS[finetune] <= steps(settings, 100) <= LEAST_STEPS[finetune] + 10


def test_large_sets_and_the_user_have_the_epochs_they_ask_for():
    assert of(source="x").resolved(images(100_000)).optim.epochs == 30
    assert of(source="x").resolved(vectors(100_000)).optim.epochs == 40
    assert of(source="x", epochs=2).resolved(images(10)).optim.epochs == 2


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion-mnist"])
def test_named_sets_keep_their_epochs(name):
    settings = of(source=name).resolved(images(50, name=name))
    assert settings.optim.epochs == BY_DATA_SET[name]["optim.epochs"]


@pytest.mark.parametrize("source", ["x", "fashion-mnist"])
def test_few_items_of_a_large_set_are_a_small_set(source):
    data = images(60_000, name=source)
    found = [
        of(source=source, train_per_class=n, validation=v).resolved(data).optim
        for n, v in ((32, 0), (64, 0.5), (10**6, 0))
    ]
    own = BY_DATA_SET.get(source, BY_KIND["images"])["optim.epochs"]
    per_epoch = round(32 * data.n_classes / found[0].batch_size) or 1
    assert found[0].epochs == found[1].epochs == max(own, -(-LEAST_STEPS["images"] // per_epoch)) > own
    assert found[2].epochs == own


@pytest.mark.parametrize("name", ["dshc", "dpsh", "csq"])
def test_a_methods_own_epochs_are_not_stretched(name, monkeypatch):
    method = methods.get(name)
    stretched = of(source="x", method=name).resolved(images(20)).optim.epochs
    monkeypatch.setattr(method, "recipe", {**method.recipe, "optim.epochs": 7})
    assert of(source="x", method=name).resolved(images(20)).optim.epochs == 7 < stretched
