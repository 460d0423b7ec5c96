"""The construction `separated`: distances, bounds, determinism, and its way through training."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runs import dshc_fails, dshc_ok
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import dshc_fast
from dshc.codebooks import Codebook, bounds, build, planner, separated
from dshc.codebooks.separated import separated_centers
from dshc.hasher import Hasher
from dshc.hasher.files import read_hasher


def least_distance(bits):
    apart = (bits[:, None] != bits[None]).sum(-1)
    return apart[~np.eye(len(bits), dtype=bool)].min()


def lexicode(n, distance):
    """All words by value, each taken that is far enough from those taken before."""
    values = np.arange(2**n)
    ones = ((values[:, None] >> np.arange(n)) & 1).sum(axis=1)
    free, taken = np.ones(2**n, dtype=bool), []
    for value in values:
        if free[value]:
            taken.append(value)
            free[value ^ values[ones < distance]] = False
    return len(taken)


@settings(deadline=None, max_examples=examples(150))
@given(st.data())
def test_small_codes_against_brute_force(data):
    n_bits = data.draw(st.integers(1, 40))
    n_words = data.draw(st.integers(1, min(2**n_bits, 150)))
    found = separated_centers(n_words, n_bits, steps=10)
    assert found.bits.shape == (n_words, n_bits) and found.bits.dtype == bool
    if n_words == 1:
        assert found.distance is None
        return
    assert found.distance >= 1
    assert found.distance <= least_distance(found.bits) <= bounds.distance_bound(n_words, n_bits)[0]
    again = separated_centers(n_words, n_bits, steps=10)
    assert (again.bits == found.bits).all() and again.origin == found.origin


@pytest.mark.parametrize("n_bits", range(1, 15))
def test_up_to_14_bits_nothing_is_left_to_the_bound_but_codes_of_72_and_144_words(n_bits):
    short = []
    for n_words in range(2, min(2**n_bits, 300) + 1):
        if planner.plan(n_words, n_bits).distance < bounds.distance_bound(n_words, n_bits)[0]:
            short.append(n_words)
    codes_of_72_and_144 = {10: range(65, 73), 11: [*range(65, 73), *range(129, 145)], 12: range(129, 145)}
    assert short == list(codes_of_72_and_144.get(n_bits, []))


@pytest.mark.parametrize("n_bits", range(2, 13))
def test_never_worse_than_the_lexicode(n_bits):
    for distance in range(2, n_bits + 1):
        n_words = lexicode(n_bits, distance)
        if n_words > 1:
            assert planner.plan(n_words, n_bits).distance >= distance, n_words


@pytest.mark.parametrize(
    ("n_classes", "n_bits", "distance", "is_optimal"),
    [
        (10, 10, 5, True),
        (10, 20, 10, True),
        (10, 30, 16, True),
        (10, 60, 32, True),
        (21, 21, 10, True),
        (100, 32, 14, True),
        (100, 64, 32, True),
        (1000, 64, 28, True),
        (4096, 64, 28, True),
        (40_000, 64, 24, False),
        (2, 9, 9, True),
        (20, 9, 4, True),
        (256, 16, 6, True),
        (4096, 24, 8, True),
        (1000, 4096, 2050, True),
        (1024, 10, 1, True),
    ],
)
def test_distances_reached(n_classes, n_bits, distance, is_optimal):
    book = build("separated", n_classes, n_bits, radius=0)
    assert book.center_distance == distance
    assert (book.distance_bound[0] == distance) == is_optimal
    assert book.origin and np.array_equal(book.codes, book.centers)


def test_ten_bits_separate_ten_classes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        book = build("separated", 10, 10)
    assert (book.n_subclasses, book.n_distinct, book.collisions) == (110, 110, 0)
    assert (book.center_distance, book.min_between, book.distance_bound) == (5, 3, (5, "Plotkin"))
    assert book.objective == -55_690


@pytest.mark.deep
def test_a_large_book_is_measured_in_seconds():
    book = build("separated", 40_000, 64, sub_codes=3)
    assert (book.n_subclasses, book.n_distinct, book.collisions) == (120_000, 120_000, 0)
    assert (book.center_distance, book.min_within, book.min_between) == (24, 1, 22)
    assert book.mean_between == pytest.approx(32, abs=0.01)


@pytest.mark.parametrize(("n_classes", "n_bits"), [(10, 13), (100, 33), (77, 31), (300, 65)])
def test_a_length_need_not_be_whole_bytes(n_classes, n_bits):
    book = build("separated", n_classes, n_bits, search_steps=50)
    assert book.codes.shape == (n_classes * (n_bits + 1), -(-n_bits // 8))
    assert book.min_between >= book.center_distance - 2 >= 3


def test_bits_left_over_repeat_others():
    book = build("separated", 21, 21, radius=0)
    bits = np.unpackbits(book.codes, axis=1, count=21, bitorder="little")
    assert "1 bit repeated" in book.origin and (bits[:, 20] == bits[:, 0]).all() and bits[:, 20].any()


def test_the_search_depends_on_its_seed_and_nothing_else():
    books = {seed: build("separated", 100, 32, radius=0, seed=seed) for seed in (0, 1)}
    assert "by search" in books[0].origin
    assert not np.array_equal(books[0].codes, books[1].codes)
    for seed, book in books.items():
        assert np.array_equal(
            build("separated", 100, 32, radius=0, seed=seed, search_steps=10_000).codes, book.codes
        )
        assert (book.seed, book.search_steps, book.center_distance) == (seed, 2000, 14)
    found = [
        build("separated", 100, 32, radius=0, search_steps=steps).center_distance for steps in (0, 1, 5, 100)
    ]
    assert found == sorted(found) and found[0] >= 12


def test_it_warns_where_sub_codes_come_too_near():
    with pytest.warns(
        UserWarning, match=r"separated with 7 bits keeps 10 centers 3 apart.*radius 1 come as near \(1\)"
    ):
        build("separated", 10, 7)
    with pytest.warns(UserWarning, match=r"5 apart.*radius 3 collide; pass more bits for 13 apart"):
        build("separated", 10, 10, radius=3)


def test_what_cannot_exist_is_refused():
    with pytest.raises(ValueError, match="n_bits must be at least 4 for 9 classes, one code each, got 3"):
        build("separated", 9, 3)
    with pytest.raises(ValueError, match="n_words must be at most .*got 9"):
        planner.plan(9, 3)


def test_a_code_that_is_nearer_than_promised_is_a_defect(monkeypatch):
    real = separated.separated_centers

    def worse(*arguments, **keywords):
        centers = real(*arguments, **keywords)
        return separated.Centers(centers.bits, centers.distance + 1, centers.origin)

    monkeypatch.setattr(separated, "separated_centers", worse)
    with pytest.raises(AssertionError, match="distance 5, not 6"):
        build("separated", 10, 10)


def test_save_and_load(tmp_path):
    book = build("separated", 7, 12, seed=3, radius=1, search_steps=9)
    loaded = Codebook.load(book.save(tmp_path / "book.safetensors"))
    for name in ("construction", "n_bits", "seed", "threshold", "radius", "search_steps", "origin"):
        assert getattr(loaded, name) == getattr(book, name)
    assert np.array_equal(loaded.codes, book.codes)


# ---- through loss, encoder and training


@pytest.mark.parametrize(
    "keywords", [{"radius": 0}, {"radius": 2}, {"sub_codes": [1, 2, 5, 11, 1, 1, 3, 4, 9, 2]}], ids=str
)
def test_loss_and_encoder_take_any_book(keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        book = build("separated", 10, 10, **keywords)
    offsets = torch.from_numpy(book.class_offsets)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, book.n_subclasses, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 9, 3, 3, 7, 1])
    logs = logits.log_softmax(1)
    expected = [-logs[i, offsets[c] : offsets[c + 1]].mean() for i, c in enumerate(labels)]
    losses = dshc_fast.class_softmax_loss(logits, labels, offsets, reduction="none")
    assert torch.allclose(losses, torch.stack(expected), rtol=1e-12)
    codes = dshc_fast.codes_from_logits(logits, torch.from_numpy(book.codes), 1)
    assert torch.equal(codes, torch.from_numpy(book.codes)[logits.argmax(1)])
    classes = torch.stack(
        [part.logsumexp(1) for part in logits.split(np.diff(book.class_offsets).tolist(), 1)], 1
    )
    centers = dshc_fast.center_codes_from_logits(logits, offsets, torch.from_numpy(book.centers))
    assert torch.equal(centers, torch.from_numpy(book.centers)[classes.argmax(1)])


@pytest.mark.deep
@pytest.mark.parametrize(
    ("flags", "n_bits", "n_outputs"),
    [
        ((), 10, 110),
        (("--bits", 16, "--radius", 0), 16, 10),
        (("--bits", 12, "--radius", 2, "--sub-codes", 7), 12, 70),
    ],
)
def test_training(tmp_path: Path, flags, n_bits, n_outputs):
    out = tmp_path / "run"
    dshc_ok(
        "train", "digits", "--construction", "separated", *flags, "--epochs", 1, "--no-report", "--out", out
    )
    book = Hasher.load(out).method.codebook()
    assert (book.construction, book.n_bits, book.n_subclasses) == ("separated", n_bits, n_outputs)
    assert json.loads((out / "evaluation.json").read_text())["counts"]["n_bits"] == n_bits
    config = (out / "config.toml").read_text()
    assert 'construction = "separated"' in config and f"bits = {n_bits}" in config
    again = tmp_path / "again"
    dshc_ok("train", "--config", out / "config.toml", "--no-report", "--out", again)
    first, second = (read_hasher(folder / "best.safetensors")[0] for folder in (out, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_command_prints_and_draws(tmp_path: Path):
    out = tmp_path / "book.safetensors"
    output = dshc_ok("codebook", "--bits", 10, "--construction", "separated", "--out", out)
    table = dict(line.split("\t")[:2] for line in output.splitlines() if line.count("\t") == 1)
    assert table["least distance between centers"] == "5" == table["upper bound on it, any codes"]
    assert table["objective, D_intra - D_inter"] == "-55690" and table["bound"] == "Plotkin"
    assert (tmp_path / "book.png").read_bytes().startswith(b"\x89PNG") and "book.png" in output
    document = json.loads(
        dshc_ok(
            "codebook", "--bits", 10, "--construction", "separated", "--radius", 2, "--sub-codes", 4, "--json"
        )
    )
    assert (document["n_subclasses"], document["most_sub_codes"], document["center_distance"]) == (40, 4, 5)
    assert "construction must be one of cpbc, kbc, separated, got 'best'" in dshc_fails(
        "codebook", "--construction", "best"
    )


def test_a_large_book_is_drawn_by_its_centers(tmp_path: Path):
    from dshc.report.codebook_plot import distance_matrix

    assert distance_matrix(build("separated", 2000, 32, radius=0)).startswith(b"\x89PNG")
    assert distance_matrix(build("separated", 40, 32)).startswith(b"\x89PNG")


def test_without_matplotlib_there_is_only_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "dshc.report.codebook_plot", None)
    output = dshc_ok("codebook", "--bits", 30, "--out", tmp_path / "book.safetensors")
    assert "matplotlib is not installed" in output and "sub-classes" in output
    assert [path.name for path in tmp_path.iterdir()] == ["book.safetensors"]
