"""Codebooks: the paper's check values, what is refused and warned of, and files."""

import doctest
import importlib
import warnings

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from dshc.codebooks import Codebook, build, default_bits, geometry, planner
from dshc.codebooks import kbc as kbc_module


def bits_of(codes, n_bits):
    return np.unpackbits(codes, axis=1, count=n_bits, bitorder="little")


def quiet(*arguments, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return build(*arguments, **keywords)


@pytest.mark.parametrize(
    ("per_class", "distinct", "collisions", "objective", "min_between", "mean_between"),
    [
        (1, 56, 46, -30_580, 0, 2.99),
        (2, 210, 0, -193_960, 2, 5.09),
        (3, 310, 0, -598_140, 4, 7.12),
        (6, 610, 0, -4_335_480, 10, 13.16),
    ],
)
def test_cpbc_check_values(per_class, distinct, collisions, objective, min_between, mean_between):
    book = quiet("cpbc", 10, 10 * per_class)
    assert (book.n_classes, book.n_bits, book.n_subclasses) == (10, 10 * per_class, 10 * (10 * per_class + 1))
    assert (book.n_distinct, book.collisions, book.objective) == (distinct, collisions, objective)
    assert (book.min_within, book.min_between) == (1, min_between)
    assert book.mean_between == pytest.approx(mean_between, abs=0.005)


def test_cpbc_order_is_the_center_then_the_flips_of_bits_0_1():
    book = build("cpbc", 2, 6)
    bits = bits_of(book.codes, 6)
    assert book.class_offsets.tolist() == [0, 7, 14]
    assert bits[:3].tolist() == [[1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0]]
    assert bits[7].tolist() == [0, 0, 0, 1, 1, 1]
    assert bits[13].tolist() == [0, 0, 0, 1, 1, 0]
    assert np.array_equal(book.centers, book.codes[book.class_offsets[:-1]])


@pytest.mark.parametrize("n_bits", [30, 32, 37])
def test_cpbc_leaves_bits_beyond_whole_blocks_at_0(n_bits):
    book = build("cpbc", 10, n_bits)
    assert book.n_subclasses == 310 and book.n_bits == n_bits
    assert book.codes.shape[1] == -(-n_bits // 8)
    assert not bits_of(book.codes, n_bits)[:, 30:].any()
    assert (book.min_between, book.objective) == (4, -598_140)


def test_cpbc_warns_by_name_where_codes_collide():
    with pytest.warns(UserWarning, match=r"cpbc with H = 1.*collide.*46 codes"):
        build("cpbc", 10, 10)
    with pytest.warns(UserWarning, match=r"cpbc with H = 2.*cannot separate"):
        build("cpbc", 10, 29)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_the_collisions_warned_of_are_those_counted(n_classes):
    with pytest.warns(UserWarning, match=f" {quiet('cpbc', n_classes, n_classes).collisions} codes"):
        build("cpbc", n_classes, n_classes)


def test_cpbc_is_silent_from_three_bits_a_class():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("cpbc", 10, 30)
        build("cpbc", 1, 1)


def test_a_single_class_has_nothing_between():
    book = build("cpbc", 1, 8)
    assert (book.min_between, book.mean_between, book.collisions, book.min_within) == (None, None, 0, 1)


def test_a_class_with_one_code_has_nothing_within():
    codes = np.array([[1], [2]], dtype=np.uint8)
    book = Codebook("cpbc", 2, codes, np.array([0, 1, 2]), codes)
    assert (book.min_within, book.mean_within, book.min_between, book.mean_between) == (None, None, 2, 2.0)


def test_large_books_are_measured_without_all_pairs():
    book = build("cpbc", 100, 1000)
    assert book.n_subclasses == 100_100  # 10^10 pairs
    assert (book.min_within, book.min_between, book.collisions, book.n_distinct) == (1, 18, 0, 100_100)


def brute_force(book):
    bits = bits_of(book.codes, book.n_bits).astype(int)
    apart = (bits[:, None] != bits[None]).sum(-1)
    owner = np.repeat(np.arange(book.n_classes), np.diff(book.class_offsets))
    same = owner[:, None] == owner
    within, between = apart[same & ~np.eye(len(bits), dtype=bool)], apart[~same]
    owners = {}
    for code, c in zip(map(bytes, book.codes), owner, strict=True):
        owners.setdefault(code, set()).add(c)
    return {
        "min_within": within.min() if within.size else None,
        "mean_within": pytest.approx(within.mean()) if within.size else None,
        "min_between": between.min() if between.size else None,
        "mean_between": pytest.approx(between.mean()) if between.size else None,
        "objective": within.sum() - between.sum(),
        "n_distinct": len(owners),
        "collisions": sum(len(classes) > 1 for classes in owners.values()),
    }


@settings(deadline=None, max_examples=examples(60))
@given(
    st.integers(1, 70),
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 0.5]),
)
def test_any_book_is_measured_as_by_brute_force(n_bits, sizes, seed, density):
    rng = np.random.default_rng(seed)

    def codes(n):
        return np.packbits(rng.random((n, n_bits)) < density, axis=1, bitorder="little")

    offsets = np.concatenate([[0], np.cumsum(sizes)])
    book = Codebook("other", n_bits, codes(sum(sizes)), offsets, codes(len(sizes)))
    assert {name: getattr(book, name) for name in brute_force(book)} == brute_force(book)


def test_kbc_keeps_about_as_many_codes_as_measured_for_the_paper():
    # This reading of the paper keeps 11 to 98 codes over 30 draws, 71.9 on average, draws that leave a class
    # without a code included.
    kept = []
    for seed in range(30):
        centers = kbc_module.draw(10, 10, np.random.PCG64(seed))
        flips = np.concatenate([[0], 1 << np.arange(10)])
        kept.append(sum(len(own) for own in kbc_module.filtered(centers, flips, 10, 3, [None] * 10)))
    assert 5 <= min(kept) and max(kept) <= 110
    assert 60 <= np.mean(kept) <= 85


@pytest.mark.parametrize("seed", range(5))
def test_kbc_codes_keep_their_distances(seed):
    book = build("kbc", 10, 10, seed=seed, threshold=3)
    bits, centers = bits_of(book.codes, 10).astype(int), bits_of(book.centers, 10).astype(int)
    apart = (bits[:, None] != centers).sum(-1)
    owner = np.repeat(np.arange(10), np.diff(book.class_offsets))
    own = apart[np.arange(len(bits)), owner]
    apart[np.arange(len(bits)), owner] = 10
    assert (own <= 1).all() and (apart >= 3).all()
    assert np.diff(book.class_offsets).min() >= 1 and book.collisions == 0
    values = book.codes.astype(int) @ [1, 256]
    for start, stop in zip(book.class_offsets[:-1], book.class_offsets[1:], strict=True):
        assert (np.diff(values[start:stop]) > 0).all()  # by code value
    again = build("kbc", 10, 10, seed=seed)
    assert np.array_equal(book.codes, again.codes)


def test_kbc_draws_again_from_the_same_generator(monkeypatch):
    real, generators = kbc_module.draw, []

    def first_is_no_use(n_classes, n_bits, rng):
        centers = real(n_classes, n_bits, rng)
        generators.append(rng)
        return np.zeros_like(centers) if len(generators) == 1 else centers  # equal centers leave no code

    monkeypatch.setattr(kbc_module, "draw", first_is_no_use)
    book = build("kbc", 2, 8, seed=1)
    assert len(generators) >= 2 and all(rng is generators[0] for rng in generators)
    assert np.diff(book.class_offsets).min() >= 1


def test_kbc_gives_up_after_1000_draws(monkeypatch):
    assert kbc_module.DRAWS == 1000
    monkeypatch.setattr(kbc_module, "DRAWS", 3)
    with pytest.raises(
        ValueError, match=r"n_bits must leave every class a code .*3 draws \(4 classes, 2 bits, threshold 3\)"
    ):
        build("kbc", 4, 2)


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (("cpbc", 10, 9), {}, r"n_bits must be at least one per class for cpbc, got 9 bits for 10 classes"),
        (("kbc", 10, 21), {}, r"n_bits must be between 1 and 20 for kbc .*, got 21"),
        (("kbc", 5, 2), {}, r"n_classes must be at most 4, all codes of 2 bits, got 5"),
        (("hadamard", 10, 30), {}, r"construction must be one of cpbc, kbc, separated, got 'hadamard'"),
        (("cpbc", 0, 30), {}, r"n_classes must be at least 1, got 0"),
        (("cpbc", 10, 0), {}, r"n_bits must be at least 1, got 0"),
        (("cpbc", 10, 5000), {}, r"n_bits must be between 1 and 4096, got 5000"),
        (("kbc", 10, 10), {"seed": -1}, r"seed must be at least 0, got -1"),
        (("kbc", 10, 10), {"threshold": -1}, r"threshold must be at least 0, got -1"),
    ],
)
def test_what_cannot_exist_is_refused(arguments, keywords, message):
    with pytest.raises(ValueError, match=message):
        build(*arguments, **keywords)


@pytest.mark.parametrize("value", ["30", 30.0, True, None])
def test_a_length_is_a_whole_number(value):
    with pytest.raises(TypeError, match="n_bits"):
        build("cpbc", 10, value)


def test_parts_that_do_not_fit_are_refused():
    codes, offsets = np.zeros((3, 1), np.uint8), np.array([0, 1, 3])
    for change, error, message in [
        ({"n_bits": 9}, ValueError, "codes"),
        ({"codes": codes.astype(np.int32)}, TypeError, "codes must be uint8, got int32"),
        ({"codes": codes + 8}, ValueError, "codes must have padding bits of 0"),
        ({"class_offsets": np.array([0, 2, 2])}, ValueError, "class_offsets"),
        ({"class_offsets": np.array([0, 3, 3])}, ValueError, "class_offsets"),
        ({"class_offsets": np.array([0.0, 1, 3])}, TypeError, "class_offsets"),
        ({"centers": codes}, ValueError, "class_offsets"),
    ]:
        parts = {"n_bits": 3, "codes": codes, "class_offsets": offsets, "centers": codes[:2], **change}
        with pytest.raises(error, match=message):
            Codebook("cpbc", **parts)


@pytest.mark.parametrize("arguments", [("cpbc", 10, 32), ("kbc", 4, 9)])
def test_save_and_load(tmp_path, arguments):
    book = build(*arguments, seed=3)
    path = book.save(tmp_path / "folder" / "book.safetensors")
    loaded = Codebook.load(path)
    for name in ("construction", "n_bits", "seed", "threshold"):
        assert getattr(loaded, name) == getattr(book, name)
    for name in ("codes", "class_offsets", "centers"):
        assert np.array_equal(getattr(loaded, name), getattr(book, name))
        assert getattr(loaded, name).dtype == getattr(book, name).dtype
    assert book.save(tmp_path / "again").read_bytes() == path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_damaged_files_are_refused_by_name(tmp_path):
    path = build("cpbc", 4, 12).save(tmp_path / "book.safetensors")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 1  # a byte of the arrays: what safetensors itself does not notice
    for damaged in (whole[:-5], bytes(flipped), b"", b"not a codebook", whole.replace(b'"12"', b'"11"')):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"book\.safetensors"):
            Codebook.load(path)
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors"):
        Codebook.load(tmp_path / "missing.safetensors")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = build("cpbc", 4, 12).save(tmp_path / "book.safetensors")
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("dshc.storage.whole_files.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        build("cpbc", 4, 16).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@settings(deadline=None, max_examples=examples(40))
@given(
    st.integers(1, 40),
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 5]),
)
def test_every_way_of_measuring_a_book_agrees(n_bits, sizes, seed, looks):
    """Small chunks, and the search over all codes after so many pairs of classes."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    codes = np.packbits(rng.random((sum(sizes), n_bits)) < 0.5, axis=1, bitorder="little")
    book = Codebook("other", n_bits, codes, offsets, codes[offsets[:-1]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "_MAX_LOOKS", looks)
        patch.setattr(geometry, "_CHUNK", 4 * n_bits)
        assert {name: getattr(book, name) for name in brute_force(book)} == brute_force(book)


def test_the_distance_of_centers_and_its_bound():
    book = build("cpbc", 10, 30)
    assert (book.center_distance, book.distance_bound) == (6, (16, "Plotkin"))
    alone = build("cpbc", 1, 8)
    assert (alone.center_distance, alone.distance_bound) == (None, (None, "one word"))
    codes = np.array([[1], [1], [2]], dtype=np.uint8)
    assert Codebook("other", 2, codes, np.arange(4), codes).center_distance == 0


# ---- which sub-codes a class gets


@pytest.mark.parametrize("construction", ["cpbc", "separated"])
@pytest.mark.parametrize(("radius", "per_class"), [(0, 1), (1, 13), (2, 13 + 66)])
def test_a_radius_is_all_codes_within_it(construction, radius, per_class):
    book = quiet(construction, 3, 12, radius=radius)
    assert np.diff(book.class_offsets).tolist() == [per_class] * 3 and book.radius == radius
    bits, centers = bits_of(book.codes, 12), np.repeat(bits_of(book.centers, 12), per_class, axis=0)
    apart = (bits != centers).sum(axis=1).reshape(3, -1)
    assert (np.diff(apart, axis=1) >= 0).all() and apart.max() == radius
    assert book.n_distinct == 3 * per_class or book.collisions > 0
    assert book.min_within == (None if radius == 0 else 1)


def test_pairs_of_flips_come_in_the_order_of_their_bits():
    book = quiet("separated", 1, 3, radius=3)
    assert bits_of(book.codes, 3).tolist() == [
        [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]
    ]  # fmt: skip


@pytest.mark.parametrize("construction", ["cpbc", "kbc", "separated"])
def test_so_many_sub_codes_are_the_nearest(construction):
    whole = quiet(construction, 4, 12, radius=2)
    cut = quiet(construction, 4, 12, radius=2, sub_codes=[1, 5, 3, 10_000])
    sizes = np.minimum(np.diff(whole.class_offsets), [1, 5, 3, 10_000])
    assert np.diff(cut.class_offsets).tolist() == sizes.tolist()
    for c in range(4):
        own = whole.codes[whole.class_offsets[c] : whole.class_offsets[c + 1]]
        apart = (bits_of(own, 12) != bits_of(whole.centers[c : c + 1], 12)).sum(axis=1)
        kept = cut.codes[cut.class_offsets[c] : cut.class_offsets[c + 1]]
        kept_apart = (bits_of(kept, 12) != bits_of(whole.centers[c : c + 1], 12)).sum(axis=1)
        assert {bytes(code) for code in kept} <= {bytes(code) for code in own}
        assert sorted(kept_apart) == sorted(apart)[: len(kept)]
    assert np.diff(quiet(construction, 4, 12, sub_codes=2).class_offsets).max() == 2


def test_cpbc_flips_no_constant_bit_at_any_radius():
    book = quiet("cpbc", 4, 15, radius=2)
    assert not bits_of(book.codes, 15)[:, 12:].any() and np.diff(book.class_offsets)[0] == 1 + 12 + 66


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"radius": -1}, ValueError, "radius must be at least 0, got -1"),
        ({"radius": 13}, ValueError, r"radius must be between 0 and 12 \(n_bits\), got 13"),
        ({"radius": 1.0}, TypeError, "radius"),
        ({"sub_codes": 0}, ValueError, "sub_codes must be at least 1, got 0"),
        ({"sub_codes": True}, TypeError, "sub_codes must be a whole number, got True"),
        (
            {"sub_codes": [1, 2]},
            ValueError,
            "sub_codes must be one number or one per class, got 2 numbers for 3 classes",
        ),
        ({"sub_codes": [1, 2, 0]}, ValueError, "sub_codes must be at least 1, got 0"),
        ({"sub_codes": [1, 2, 2.5]}, TypeError, "sub_codes must be a whole number, got 2.5"),
        ({"sub_codes": "many"}, ValueError, "sub_codes"),
        ({"search_steps": -1}, ValueError, "search_steps must be at least 0, got -1"),
    ],
)
def test_sub_codes_that_cannot_be_are_refused(keywords, error, message):
    for construction in ("cpbc", "kbc", "separated"):
        with pytest.raises(error, match=message):
            quiet(construction, 3, 12, **keywords)


def test_too_many_sub_codes_are_refused_before_they_are_made():
    with pytest.raises(ValueError, match=r"sub-codes per class, got 8,987,138,113 of 256 bits at radius 5"):
        quiet("separated", 3, 256, radius=5)
    with pytest.raises(
        ValueError, match=r"sub-codes in all classes, got 164,\d{3},\d{3} in 5,000 classes at radius 2"
    ):
        quiet("separated", 5000, 256, radius=2)
    with pytest.raises(ValueError, match="n_classes must be at most .*, got 268,435,456"):
        build("separated", 2**28, 64)


# ---- lengths by default


@pytest.mark.parametrize("n_classes", [1, 2, 3, 10, 100, 1000])
@pytest.mark.parametrize("radius", [0, 1, 2])
def test_the_shortest_separated_code_by_default(n_classes, radius):
    n_bits, wanted = default_bits(n_classes, "separated", radius), 4 * max(radius, 1) + 1
    if n_classes == 1:
        assert n_bits == 1
    else:
        assert planner.plan(n_classes, n_bits).distance >= wanted
        assert 2 ** (n_bits - 1) < n_classes or planner.plan(n_classes, n_bits - 1).distance < wanted


def test_three_bits_a_class_by_default_elsewhere():
    assert default_bits(10) == default_bits(10, "cpbc", 2) == default_bits(10, "kbc") == 30
    with pytest.raises(ValueError, match="--construction separated"):
        default_bits(183)


@pytest.mark.parametrize("module", ["factory", "bounds", "planner"])
def test_examples_print_what_they_say(module):
    result = doctest.testmod(importlib.import_module(f"dshc.codebooks.{module}"))
    assert result.attempted and not result.failed
