"""Named protocols: which items of a set are queries, database and training images.

The order in which items are drawn comes from the raw words of PCG64, one per item, sorted. numpy guarantees
this stream for ever and on every platform; it does not guarantee ``Generator.permutation``. Shares are
rounded in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..errors import InputError, one_of
from .dataset import Dataset
from .fewer_items import some_per_class, without_classes
from .split import Split

__all__ = ["Protocol", "Split", "describe_protocols", "make_split", "protocols"]

_QUERY_SHARE = Fraction(1, 5)
# Purposes with a stream of their own, so that a change of one share never moves another part.
_DRAW, _VALIDATION, _PER_CLASS, _UNSEEN = 0, 1, 2, 3


@dataclass(frozen=True)
class _Roles:
    """Item numbers by role; ``pool`` is what training and validation are cut from."""

    query: np.ndarray
    database: np.ndarray
    pool: np.ndarray


@dataclass(frozen=True)
class Protocol:
    """A row of the table of protocols: its name, what it does in a sentence, who uses it, how it is made."""

    name: str
    text: str
    source: str
    roles: Callable[[Dataset, np.ndarray], _Roles]


def protocols() -> tuple[str, ...]:
    """The names of protocols that ``make_split`` knows, ``"default"`` aside."""
    return tuple(_PROTOCOLS)


def describe_protocols() -> tuple[tuple[str, str, str], ...]:
    """A row for each protocol: its name, what it does, who uses it."""
    return tuple((row.name, row.text, row.source) for row in _PROTOCOLS.values())


def make_split(
    dataset: Dataset,
    protocol: str = "default",
    *,
    seed: int = 0,
    validation: float = 0.1,
    train_per_class: int | None = None,
    unseen_classes: int = 0,
) -> Split:
    """Cut a set into queries, database, training and validation by a named protocol.

    ``protocols()`` names them and ``describe_protocols()`` says what each does. ``default`` is ``all`` without
    labels, ``published`` where the set brings its published split, ``official`` where it has a test part, else
    ``digits`` for the digits, else ``random``.

    ``validation`` (0 <= share < 1) of the training images are set aside for choosing settings and epochs, by
    class; they stay in the database where the training images are the database, and never meet the queries.
    Multi-label sets draw them from the items that have a label, and drop queries without any (their count is
    in ``Split.dropped``).

    ``train_per_class`` (>= 1) trains on at most so many items of each class, the validation items among them;
    multi-label, on items until each label has so many. ``unseen_classes`` (of items of one class each) trains on none
    of so many classes, drawn by the seed, which are queried and found all the same. Queries and database stay those of
    the protocol, and ``Split.protocol`` says both.

    The same labels, protocol, seed, share and numbers give the same split on every machine. Raises ``ValueError``
    where the protocol does not fit the set, naming both.
    """
    if protocol == "default":
        protocol = _default(dataset)
    if protocol not in _PROTOCOLS:
        raise one_of("protocol", protocol, ("default", *_PROTOCOLS))
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an integer, got {seed!r}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be 0 to 2^63 - 1, got {seed}")
    if isinstance(validation, bool) or not isinstance(validation, (int, float)):
        raise TypeError(f"validation must be a share of the training images, got {validation!r}")
    if not 0 <= validation < 1:
        raise ValueError(
            f"validation must be a share of the training images, 0 <= share < 1, got {validation!r}"
        )
    for name, number, least in (
        ("train_per_class", train_per_class, 1),
        ("unseen_classes", unseen_classes, 0),
    ):
        if number is not None and (isinstance(number, bool) or not isinstance(number, (int, np.integer))):
            raise TypeError(f"{name} must be an integer, got {number!r}")
        if number is not None and number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    seed = int(seed)
    if dataset.labels is None:
        if train_per_class is not None or unseen_classes:
            raise ValueError(
                f"{dataset.name}: must have labels for train_per_class and unseen_classes, got none"
            )
        return _unlabelled(dataset, protocol, seed)
    roles = _PROTOCOLS[protocol].roles(dataset, _words(dataset.n_items, seed, _DRAW))
    if not len(roles.pool) or not len(roles.database):
        raise ValueError(f"{dataset.name}: protocol {protocol} leaves nothing to train on or to find")
    pool, name = roles.pool, protocol
    if unseen_classes:
        pool = without_classes(dataset, pool, unseen_classes, _words(dataset.n_classes, seed, _UNSEEN))
        name += f", {unseen_classes} {'class' if unseen_classes == 1 else 'classes'} unseen in training"
    if train_per_class is not None:
        pool = some_per_class(dataset, pool, train_per_class, _words(dataset.n_items, seed, _PER_CLASS))
        name += f", {train_per_class} training items per class"
    labelled = _labelled(dataset)
    query = roles.query[labelled[roles.query]]
    if not len(query):
        raise ValueError(f"{dataset.name}: protocol {protocol} leaves no query with a label")
    if not labelled[pool].any():
        raise ValueError(f"{dataset.name}: protocol {name} must leave training items with a label, got none")
    # A float is what its shortest decimal says: 0.1 of 1,000 is 100, whatever the binary value next to it.
    share = Fraction(repr(float(validation)))
    chosen = _draw(dataset, pool[labelled[pool]], share, _words(dataset.n_items, seed, _VALIDATION))
    return Split.of(
        dataset,
        name,
        seed,
        query=query,
        database=roles.database,
        train=np.setdiff1d(pool, chosen, assume_unique=True),
        validation=chosen,
        dropped=len(roles.query) - len(query),
    )


def _default(dataset: Dataset) -> str:
    if dataset.labels is None:
        return "all"
    if dataset.published is not None:
        return "published"
    if dataset.test_mask is not None:
        return "official"
    return "digits" if _is_digits(dataset) else "random"


def _is_digits(dataset: Dataset) -> bool:
    """Those of scikit-learn; a file may be called so, too."""
    return dataset.name == "digits" and dataset.n_items == 1797 and dataset.n_classes == 10


def _unlabelled(dataset: Dataset, protocol: str, seed: int) -> Split:
    if protocol != "all":
        raise ValueError(
            f"{dataset.name}: must have labels for protocol {protocol}, got none; protocol all does without"
        )
    nothing, everything = np.zeros(0, np.int64), np.arange(dataset.n_items)
    return Split.of(
        dataset, protocol, seed, query=nothing, database=everything, train=everything, validation=nothing
    )


def _all(dataset: Dataset, _words: np.ndarray) -> _Roles:
    raise InputError(f"{dataset.name}: must have no labels for protocol all, got some")


def _published(dataset: Dataset, _words: np.ndarray) -> _Roles:
    if dataset.published is None:
        raise InputError(f"{dataset.name}: must have a published split, got none; protocol random draws one")
    parts = dataset.published
    return _Roles(parts["query"], parts.get("database", parts["train"]), parts["train"])


def _official(dataset: Dataset, _words: np.ndarray) -> _Roles:
    if dataset.test_mask is None:
        raise ValueError(
            f"{dataset.name}: must have an official test part, got none; protocol random draws one"
        )
    rest = np.flatnonzero(~dataset.test_mask)
    return _Roles(np.flatnonzero(dataset.test_mask), rest, rest)


def _random(dataset: Dataset, words: np.ndarray) -> _Roles:
    query = _draw(dataset, np.arange(dataset.n_items), _QUERY_SHARE, words)
    if not len(query):
        raise ValueError(
            f"{dataset.name}: must have a class of two items, one to ask and one to find, got none"
        )
    rest = np.setdiff1d(np.arange(dataset.n_items), query, assume_unique=True)
    return _Roles(query, rest, rest)


def _digits(dataset: Dataset, words: np.ndarray) -> _Roles:
    if dataset.multilabel or (dataset.n_items, dataset.n_classes) != (1797, 10):
        raise ValueError(
            f"{dataset.name}: protocol digits is for the 1,797 digits of scikit-learn, "
            f"not {_describe(dataset)}"
        )
    return _random(dataset, words)


def _cifar10_full(dataset: Dataset, words: np.ndarray) -> _Roles:
    rank = _cifar10_ranks(dataset, words, "cifar10-full")
    rest = np.flatnonzero(rank >= 1000)
    return _Roles(np.flatnonzero(rank < 1000), rest, rest)


def _cifar10_5k_59k(dataset: Dataset, words: np.ndarray) -> _Roles:
    rank = _cifar10_ranks(dataset, words, "cifar10-5k-59k")
    return _Roles(
        np.flatnonzero(rank < 100), np.flatnonzero(rank >= 100), np.flatnonzero((rank >= 100) & (rank < 600))
    )


def _cifar10_5k_54k(dataset: Dataset, words: np.ndarray) -> _Roles:
    rank = _cifar10_ranks(dataset, words, "cifar10-5k-54k")
    return _Roles(
        np.flatnonzero(rank < 100), np.flatnonzero(rank >= 600), np.flatnonzero((rank >= 100) & (rank < 600))
    )


def _nuswide_full(dataset: Dataset, words: np.ndarray) -> _Roles:
    query, rest, _ = _nuswide_parts(dataset, words, "nuswide-full", 0)
    return _Roles(query, rest, rest)


def _nuswide_10500(dataset: Dataset, words: np.ndarray) -> _Roles:
    return _Roles(*_nuswide_parts(dataset, words, "nuswide-10500", 10_500))


def _nuswide_parts(
    dataset: Dataset, words: np.ndarray, protocol: str, n_train: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """2,100 of the items with a label, all others, and ``n_train`` more of those with a label."""
    labelled, least = _labelled(dataset), 2100 + max(n_train, 1)
    if not dataset.multilabel or labelled.sum() < least:
        raise ValueError(
            f"{dataset.name}: must have several labels per item and at least {least:,} items that have one for "
            f"protocol {protocol}, got {_describe(dataset)}"
        )
    rank = _ranks(np.where(labelled, 0, 1), words)
    query = labelled & (rank < 2100)
    train = labelled & ~query & (rank < 2100 + n_train)
    return np.flatnonzero(query), np.flatnonzero(~query), np.flatnonzero(train)


_PAPERS = "HashNet (arXiv 1702.00758) and those that compare with it"
_PROTOCOLS: dict[str, Protocol] = {
    row.name: row
    for row in (
        Protocol(
            "published",
            "queries, training images and database by the lists that were published with the set; without a list "
            "of the database it is the training images",
            _PAPERS,
            _published,
        ),
        Protocol(
            "official",
            "queries = the set's official test part; database = training images = the rest; the seed moves only "
            "the validation images",
            "the set's makers; SSDH, DCWH",
            _official,
        ),
        Protocol(
            "cifar10-full",
            "1,000 queries per class, drawn from all 60,000; the other 50,000 are training images and database",
            "DSHC; setting 2 of SDSH and DeepHash-pytorch",
            _cifar10_full,
        ),
        Protocol(
            "cifar10-5k-59k",
            "100 queries and 500 training images per class; database = the 59,000 that are no query",
            "setting 1 of DPSH (arXiv 1511.03855), DTSH (arXiv 1612.03900) and DSDH (arXiv 1705.10999)",
            _cifar10_5k_59k,
        ),
        Protocol(
            "cifar10-5k-54k",
            "100 queries and 500 training images per class; database = the 54,000 that are neither",
            "thulab/DeepHash; the reduced protocol of SDSH",
            _cifar10_5k_54k,
        ),
        Protocol(
            "nuswide-full",
            "2,100 queries, drawn from the items that have a label; all others are training images and database; for "
            "NUS-WIDE's 195,834 images of its 21 most frequent labels",
            "DSHC",
            _nuswide_full,
        ),
        Protocol(
            "nuswide-10500",
            "the same queries; 10,500 training images drawn from the others that have a label; database = all that are "
            "no query",
            "DSHC, its second setting; DPSH and those that compare with it draw both by label",
            _nuswide_10500,
        ),
        Protocol(
            "digits",
            "360 of the 1,797 digits as queries, by class; the other 1,437 are training images and database",
            "this project",
            _digits,
        ),
        Protocol(
            "random",
            "a fifth of any set as queries, by class (multi-label: of all items); the rest is training images and "
            "database",
            "this project",
            _random,
        ),
        Protocol(
            "all",
            "items without labels: all are training items and database, none is a query, none validates",
            "this project",
            _all,
        ),
    )
}


def _cifar10_ranks(dataset: Dataset, words: np.ndarray, protocol: str) -> np.ndarray:
    """Place of every item in the random order of its class, for a set with CIFAR-10's classes."""
    if dataset.multilabel or np.bincount(dataset.labels, minlength=10).tolist() != [6000] * 10:
        raise ValueError(
            f"{dataset.name}: protocol {protocol} is for CIFAR-10 with 6,000 items in each of 10 classes, "
            f"not {_describe(dataset)}"
        )
    return _ranks(dataset.labels, words)


def _describe(dataset: Dataset) -> str:
    kind = "labels" if dataset.multilabel else "classes"
    return f"{dataset.n_items} items of {dataset.n_classes} {kind}"


def _labelled(dataset: Dataset) -> np.ndarray:
    """bool (n,): items that have a label."""
    return dataset.labels.any(axis=1) if dataset.multilabel else np.ones(dataset.n_items, bool)


def _words(n_items: int, seed: int, purpose: int) -> np.ndarray:
    """A random 64-bit word for every item; their order is the order of drawing."""
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(purpose,))).random_raw(n_items)


def _ranks(groups: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Place (0, 1, ...) of every item among those of its group, in the order of the words."""
    order = np.lexsort((words, groups))
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - starts[groups[order]]
    return ranks


def _draw(dataset: Dataset, items: np.ndarray, share: Fraction, words: np.ndarray) -> np.ndarray:
    """That share of the items, rounded up; by class where items have one, and never a whole class."""
    groups = np.zeros(len(items), np.int64) if dataset.multilabel else dataset.labels[items]
    counts = _allocate(np.bincount(groups), share)
    return items[_ranks(groups, words[items]) < counts[groups]]


def _allocate(sizes: np.ndarray, share: Fraction) -> np.ndarray:
    """How many to take of each group: ``share`` of it rounded down or up; the sum is that of all, rounded up.

    Largest remainders are rounded up first, the lower group at equal ones. One item of a group is always
    left.
    """
    up, down = share.numerator, share.denominator
    counts = [int(size) * up // down for size in sizes]
    remainders = [int(size) * up % down for size in sizes]
    missing = -(-int(sizes.sum()) * up // down) - sum(counts)
    for group in sorted(range(len(counts)), key=lambda g: (-remainders[g], g))[:missing]:
        counts[group] += 1
    return np.minimum(counts, np.maximum(sizes - 1, 0))
