"""Codebooks: the paper's check values, what is refused and warned of, and files."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dshc import codebooks
from dshc.codebooks import Codebook, build


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


@settings(deadline=None, max_examples=60)
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
        _, codes = codebooks._kbc_draw(10, 10, 3, np.random.PCG64(seed))
        kept.append(sum(len(own) for own in codes))
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
    real, draws = codebooks._kbc_draw, []

    def first_leaves_a_class_empty(*arguments):
        centers, kept = real(*arguments)
        draws.append(arguments[-1])
        if len(draws) == 1:
            kept[0] = kept[0][:0]
        return centers, kept

    monkeypatch.setattr(codebooks, "_kbc_draw", first_leaves_a_class_empty)
    book = build("kbc", 2, 8, seed=1)
    assert len(draws) >= 2 and all(draw is draws[0] for draw in draws)
    assert np.diff(book.class_offsets).min() >= 1


def test_kbc_gives_up_after_1000_draws(monkeypatch):
    monkeypatch.setattr(codebooks, "KBC_DRAWS", 3)
    with pytest.raises(ValueError, match=r"n_bits: 3 draws of kbc.*4 classes, 2 bits, threshold 3"):
        build("kbc", 4, 2)
    assert codebooks.__dict__["KBC_DRAWS"] == 3


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (("cpbc", 10, 9), {}, r"n_bits: cpbc needs at least one bit a class, got 9 bits for 10 classes"),
        (("kbc", 10, 21), {}, r"n_bits: got 21, kbc .* takes 1 to 20"),
        (("kbc", 5, 2), {}, r"n_classes: got 5, but 2 bits make only 4 codes"),
        (("hadamard", 10, 30), {}, r"construction: got 'hadamard', taken is one of cpbc, kbc"),
        (("cpbc", 0, 30), {}, r"n_classes: got 0"),
        (("cpbc", 10, 0), {}, r"n_bits: got 0"),
        (("cpbc", 10, 5000), {}, r"n_bits: got 5000, taken is 1 to 4096"),
        (("kbc", 10, 10), {"seed": -1}, r"seed: got -1"),
        (("kbc", 10, 10), {"threshold": -1}, r"threshold: got -1"),
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
        ({"codes": codes.astype(np.int32)}, TypeError, "codes: got dtype int32"),
        ({"codes": codes + 8}, ValueError, "codes: padding"),
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

    monkeypatch.setattr("dshc.files.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        build("cpbc", 4, 16).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
