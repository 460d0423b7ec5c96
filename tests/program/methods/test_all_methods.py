"""What holds for every method of the table: chance on labels that mean nothing, mAP 1 on classes that lie apart, losses
that know no order, codes that know no batch.
"""

import functools
import itertools

import numpy as np
import pytest
import torch
from effort import deep

import dshc
import dshc_fast
from dshc import methods
from dshc.methods import Pass, Spec, Step, Training
from dshc.settings import plain_type

N_CLASSES, N_FEATURES = 4, 8


def kind_of(name):
    return "ids" if "ids" in methods.get(name).label_kinds else "multi-hot"


def bits_of(name, bits):
    """``bits`` where the method leaves the choice, else None: codes of classes have the length that parts them."""
    method = methods.get(name)
    return bits if method.defaults(method.Settings(), N_CLASSES)["bits"] == 32 else None


def built(name, kind, n_features=12):
    method = methods.get(name)
    torch.manual_seed(0)
    spec = Spec(3, kind, n_features, ("a", "b", "c"))
    return method.build(method.Settings(bits=bits_of(name, 12)), spec)


# A fit finds codes of these: they see where items lie, not to which class they belong.
FITTED = [name for name in methods.available() if not built(name, kind_of(name)).stages(1)]
TRAINED = [name for name in methods.available() if name not in FITTED]
# What else a training is told, to be quick.
SETTINGS = {"sdsh": {"rotation_steps": 20}}
# Bits of these need not follow the classes, and why: where features say something else too, mAP is less than 1.
FREE_BITS = {
    "cross_entropy": "nothing pushes a bit to one side for all items of a class",
    "greedyhash": "some of the bits may tell the classes already, which leaves the others to chance",
    "orthohash": "batch normalisation halves items by a bit also where the centers of all classes agree",
    "relahash": "the same",
    "vmf": "the mean direction of a class may be near 0 in some bits",
}
# One-hot labels give another loss than class ids, and why. The other methods see one-hot labels as they see ids.
OTHER_LOSS_FOR_SETS = {
    "ssdh": "a regression with a margin for each label takes the place of the soft-max",
    "greedyhash": "every label is decided by a sigmoid of its own",
    "cross_entropy": "every label is decided by a sigmoid of its own",
}


def trained(name, folder, features, ids, bits=16, epochs=9):
    """A hasher by the public way, from embeddings and nothing behind them but the method's head."""
    labels = ids if kind_of(name) == "ids" else np.eye(N_CLASSES, dtype=np.uint8)[ids]
    np.savez(folder / "items.npz", features=features, labels=labels)
    values = {"backbone": "identity", "width": None, "validation": 0.0, "epochs": epochs, "batch_size": 40}
    # One optimizer for all: what is asked for is that the loss leads there, not how fast.
    values |= {"optimizer": "adamw", "lr": 0.05, "device": "cpu", "threads": 1, "checkpoint_every": 10**6}
    values |= {"out": str(folder / "run"), "bits": bits_of(name, bits), **SETTINGS.get(name, {})}
    return dshc.train(str(folder / "items.npz"), method=name, on_event=lambda *_: None, **values).hasher


def mean_ap(hasher, queries, database, query_ids, database_ids):
    codes = hasher.encode(queries), hasher.encode(database)
    return dshc_fast.mean_average_precision(*codes, query_ids, database_ids, score=hasher.score)


# Labels that mean nothing


def chance(n, n_relevant):
    """The mean AP of all orders of ``n`` items, ``n_relevant`` of which are relevant."""
    others = (n_relevant - 1) / (n - 1)  # the share of relevant ones among those before a relevant one
    return sum((1 + (t - 1) * others) / t for t in range(1, n + 1)) / n


def test_the_level_of_chance_is_the_mean_over_all_orders():
    for n, n_relevant in ((1, 1), (4, 1), (5, 3), (6, 6)):
        if n == 1:
            assert chance(2, 2) == pytest.approx(1)
            continue
        orders = list(itertools.combinations(range(1, n + 1), n_relevant))
        aps = [sum((i + 1) / rank for i, rank in enumerate(ranks)) / n_relevant for ranks in orders]
        assert chance(n, n_relevant) == pytest.approx(sum(aps) / len(aps))


@pytest.mark.filterwarnings("ignore:the training ended near chance")
@pytest.mark.parametrize("name", methods.available())
def test_what_labels_do_not_tell_is_not_ranked(name, tmp_path):
    """Trained on shuffled labels of random features, unseen items rank at chance: what is better saw the answer."""
    random = np.random.default_rng(7)
    features = random.normal(size=(360, N_FEATURES)).astype(np.float32)
    ids = random.permutation(np.arange(360) % N_CLASSES)
    train, queries, database = np.split(np.arange(360), [160, 240])
    hasher = trained(name, tmp_path, features[train], ids[train], bits=8, epochs=3)
    database_ids = random.permutation(np.arange(len(database)) % N_CLASSES)
    codes = hasher.encode(features[queries]), hasher.encode(features[database])
    assert len(np.unique(codes[1], axis=0)) > 1, "one code for everything would be at chance too"
    measure = functools.partial(dshc_fast.mean_average_precision, *codes, ids[queries], score=hasher.score)
    # The spread of the mean over what else the labels of the database could have been.
    spread = np.std([measure(random.permutation(database_ids)) for _ in range(50)])
    level = chance(len(database), len(database) // N_CLASSES)
    assert 0 < spread < 0.05
    assert abs(measure(database_ids) - level) < 4 * spread


# Classes that lie apart


def corners(n, spread, seed=0):
    """Items near four corners of a box, all with equally many of its edges between them, in a turned space.

    ``spread`` is the deviation along the five directions that tell nothing; along the others it is 0.05. Every way to
    part the corners is linear.
    """
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(N_FEATURES, N_FEATURES)))[0]
    random = np.random.default_rng(seed)
    ids = np.arange(n) % N_CLASSES
    signs = np.array([[a, b, a * b] for a in (-1, 1) for b in (-1, 1)])
    place = signs[ids] * [1.2, 1.0, 0.85] + 0.05 * random.normal(size=(n, 3))
    noise = spread * random.normal(size=(n, N_FEATURES - 3))
    return (np.concatenate([place, noise], 1) @ turn).astype(np.float32), ids


@pytest.fixture(scope="module")
def converged(tmp_path_factory):
    """Hashers of TRAINED methods on classes that only labels tell apart, each trained when first asked for."""

    @functools.cache
    def of(name):
        return trained(name, tmp_path_factory.mktemp(name), *corners(800, 2.0))

    return of


@pytest.mark.parametrize("name", TRAINED)
def test_classes_that_lie_apart_are_ranked_without_a_mistake(name, converged):
    items, ids = corners(800, 2.0)
    unseen, unseen_ids = corners(80, 2.0, seed=1)
    found = mean_ap(converged(name), unseen, items, unseen_ids, ids)
    if name in FREE_BITS:
        assert found > 0.85
    else:
        assert found == pytest.approx(1, abs=1e-12)


def test_the_place_of_items_alone_does_not_part_these_classes(tmp_path):
    """Else the test above would pass any method, such as one that learns nothing."""
    items, ids = corners(800, 2.0)
    unseen, unseen_ids = corners(80, 2.0, seed=1)
    hasher = trained("lsh", tmp_path, items, ids, bits=64)
    assert mean_ap(hasher, unseen, items, unseen_ids, ids) < 0.6


@pytest.mark.parametrize("name", [*FITTED, *deep(*FREE_BITS)])
def test_tight_clusters_are_ranked_without_a_mistake(name, tmp_path):
    """Three bits for a fit, as the box has three sides; random planes need more of them."""
    items, ids = corners(800, 0.02)
    unseen, unseen_ids = corners(80, 0.02, seed=1)
    bits = 3 if name in FITTED and name != "lsh" else 32
    hasher = trained(name, tmp_path, items, ids, bits=bits)
    assert mean_ap(hasher, unseen, items, unseen_ids, ids) == pytest.approx(1, abs=1e-12)


# Losses


N_ITEMS = 24


def labels_of(kind):
    ids = torch.arange(N_ITEMS) % 3
    if kind == "ids":
        return ids
    hot = torch.eye(3, dtype=torch.uint8)[ids]
    hot[::5, 0] = 1
    return hot


def losses(name, kind, labels, batch):
    """The loss and its gradient, in item order, of the batch at every stage; the method has just begun."""
    features = 2 * torch.randn(N_ITEMS, 12, generator=torch.Generator().manual_seed(3))
    found = []
    for stage in built(name, kind).stages(4):
        method = built(name, kind).eval()
        outputs = method.head(features).detach()
        method.train()
        method.begin(Training(N_ITEMS, labels, torch.Generator().manual_seed(1), torch.device("cpu")))
        everything = Pass(
            lambda: features,
            lambda outputs=outputs: outputs,
            labels,
            torch.Generator().manual_seed(2),
            epoch=2,
            stage=stage.name,
        )
        method.begin_epoch(everything)
        leaf = outputs.clone().requires_grad_()
        step = Step(
            labels=labels[batch],
            items=batch,
            stage=stage.name,
            epoch=2,
            iteration=500,
            progress=0.5,
            averaged_outputs=lambda outputs=outputs: outputs[batch] * 0.9,
        )
        loss = method.loss(leaf[batch], step)
        found.append((loss.item(), torch.autograd.grad(loss, leaf)[0]))
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in TRAINED for kind in methods.get(name).label_kinds if kind != "pairs"],
)
def test_the_loss_does_not_depend_on_the_order_of_the_batch(name, kind):
    labels = labels_of(kind)
    shuffled = torch.randperm(N_ITEMS, generator=torch.Generator().manual_seed(4))
    in_order = losses(name, kind, labels, torch.arange(N_ITEMS))
    for (loss, gradient), (other, of_other) in zip(
        in_order, losses(name, kind, labels, shuffled), strict=True
    ):
        assert gradient.any()
        assert other == pytest.approx(loss, rel=1e-5)
        assert torch.allclose(of_other, gradient, rtol=1e-4, atol=1e-6 * gradient.abs().max())


@pytest.mark.parametrize(
    "name", [name for name in TRAINED if {"ids", "multi-hot"} <= set(methods.get(name).label_kinds)]
)
def test_one_hot_labels_are_class_ids(name):
    ids = labels_of("ids")
    hot = torch.eye(3, dtype=torch.uint8)[ids]
    every = torch.arange(N_ITEMS)
    pairs = zip(losses(name, "ids", ids, every), losses(name, "multi-hot", hot, every), strict=True)
    same = [
        other == pytest.approx(loss, rel=1e-5)
        and torch.allclose(of_other, gradient, rtol=1e-4, atol=1e-6 * gradient.abs().max())
        for (loss, gradient), (other, of_other) in pairs
    ]
    assert all(same) == (name not in OTHER_LOSS_FOR_SETS)


# Codes


@pytest.mark.parametrize("name", TRAINED)
def test_codes_do_not_depend_on_the_batch(name, converged):
    items, _ = corners(45, 2.0, seed=2)
    whole = converged(name).encode(items)
    for size in (1, 7, 44):
        assert np.array_equal(converged(name).encode(items, batch_size=size), whole)
    assert np.array_equal(converged(name).encode(items[::-1].copy()), whole[::-1])


# Settings


@pytest.mark.parametrize("name", methods.available())
def test_the_main_weight_is_a_number_that_can_be_tuned(name):
    method = methods.get(name)
    if method.main_weight is None:
        return
    default = getattr(method.Settings(), method.main_weight)
    assert default is not None and default > 0
    for factor in (0.1, 10):
        tuned = method.Settings(**{method.main_weight: factor * default})
        assert getattr(tuned, method.main_weight) == factor * default


def test_settings_of_one_name_have_one_type():
    """They share a flag."""
    types: dict[str, dict[type, list[str]]] = {}
    for name in methods.available():
        for setting, field in methods.get(name).Settings.model_fields.items():
            types.setdefault(setting, {}).setdefault(plain_type(field), []).append(name)
    assert not {setting: of for setting, of in types.items() if len(of) > 1}
