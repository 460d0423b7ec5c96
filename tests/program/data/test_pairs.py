"""Pairs: what is known of whom, in every format the same, and files that are refused by line."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import dshc.data.pairs as pairs_module
from dshc.data.pairs import Pairs, read_pairs
from dshc.errors import InputError

N = 6
PAIRS = np.array([[0, 1], [4, 2], [1, 3], [5, 0]])
SIMILAR = np.array([True, False, True, False])
MATRIX = np.zeros((N, N), np.int8)
for (i, j), yes in zip(PAIRS, SIMILAR, strict=True):
    MATRIX[i, j] = MATRIX[j, i] = 1 if yes else -1
IDS = ("a.png", "b c.png", "2", "x/d.png", "e.png", "f.png")


def rows_of(text, path):
    path.write_text(text)
    return path


def test_what_is_known_of_whom():
    known = Pairs.of(N, PAIRS, SIMILAR)
    assert np.array_equal(known.known.toarray(), MATRIX) and known.known.dtype == np.int8
    assert (known.n_items, known.n_pairs, known.n_similar, known.complete) == (6, 4, 2, False)
    assert np.array_equal(known.rows(np.array([3, 0])), MATRIX[[3, 0]])
    assert np.array_equal(known.take(np.array([5, 1, 0])).known.toarray(), MATRIX[[5, 1, 0]][:, [5, 1, 0]])
    assert str(known) == "4 pairs (0.267 of all), 2 of them similar"


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans()).filter(lambda p: p[0] != p[1]))
)
def test_the_majority_counts_and_a_tie_is_left_out(votes):
    pairs = np.array([vote[:2] for vote in votes], np.int64).reshape(-1, 2)
    found = Pairs.of(5, pairs, np.array([vote[2] for vote in votes], bool))
    expected = Counter()
    for i, j, yes in votes:
        expected[frozenset((i, j))] += 1 if yes else -1
    matrix = np.zeros((5, 5), np.int8)
    for pair, value in expected.items():
        i, j = pair
        matrix[i, j] = matrix[j, i] = np.sign(value)
    assert np.array_equal(found.known.toarray(), matrix)
    assert found.n_contradicted == sum(value == 0 for value in expected.values())
    assert found.n_pairs == sum(value != 0 for value in expected.values())


def test_a_digest_is_of_what_is_known():
    known = Pairs.of(N, PAIRS, SIMILAR)
    assert known.digest() == Pairs.of(N, PAIRS[::-1, ::-1], SIMILAR[::-1]).digest()
    assert len({known.digest(), Pairs.of(N, PAIRS, ~SIMILAR).digest(), Pairs.of(7, PAIRS, SIMILAR).digest(),
                Pairs.of(N, PAIRS[1:], SIMILAR[1:]).digest()}) == 4  # fmt: skip


def write(path, form):
    """The pairs above in a file of some form."""
    three = np.column_stack([PAIRS, SIMILAR])
    matrix = np.where(MATRIX == 0, -1, MATRIX == 1).astype(np.int8)  # 1 similar, 0 not, -1 not known
    match form:
        case "npy rows":
            np.save(path, three)
        case "npy matrix":
            np.save(path, matrix)
        case "npz":
            np.savez(path, pairs=PAIRS, similar=SIMILAR)
        case "npz signs":
            np.savez(path, pairs=PAIRS.astype(np.uint16), similar=np.where(SIMILAR, 1, -1))
        case "npz matrix":
            np.savez(path, similarity=matrix)
        case "safetensors":
            save_file({"pairs": PAIRS, "similar": SIMILAR}, path)
        case "csv":
            path.write_text("a,b,similar\n" + "".join(f"{i},{j},{int(s)}\n" for i, j, s in three))
        case "csv words":
            path.write_text("".join(f"{i},{j},{'similar' if s else 'dissimilar'}\n" for i, j, s in three))
        case "tsv":
            path.write_text("".join(f"{i}\t{j}\t{'Yes' if s else 'no'}\n\n" for i, j, s in three))
        case "txt":
            path.write_text("".join(f"{i} {j} {1 if s else -1}\n" for i, j, s in three))
        case "csv ids":
            path.write_text(
                "first,second,similar\n" + "".join(f"{IDS[i]},{IDS[j]},{s}\n" for i, j, s in three)
            )
    return path


FORMS = {
    "npy rows": ".npy", "npy matrix": ".npy", "npz": ".npz", "npz signs": ".npz", "npz matrix": ".npz",
    "safetensors": ".safetensors", "csv": ".csv", "csv words": ".csv", "tsv": ".tsv", "txt": ".txt", "csv ids": ".csv",
}  # fmt: skip


@pytest.mark.parametrize(
    "header", ["a,b", "i,j,similar", "Image1,Image2", "item_a,item_b,same", "first,second,label"]
)
def test_headers(header, tmp_path):
    body = "0,1,1\n" if header.count(",") == 2 else "0,1\n"
    assert read_pairs(rows_of(f"{header}\n{body}", tmp_path / "pairs.csv"), N).n_pairs == 1


def test_all_rows_decide_whether_items_go_by_their_ids(tmp_path):
    ids = ("5", "4", "3", "2", "1", "0")  # of the items 0, 1, ...
    path = tmp_path / "pairs.csv"
    assert read_pairs(rows_of("5,4\n", path), N, ids).known[0, 1] == 1
    ids = ("7", "4", "3", "2", "1", "0")
    with pytest.raises(InputError, match="line 2 must name two items of the set, got '5'"):
        read_pairs(
            rows_of("1,4\n5,0\n", path), N, ids
        )  # no item is called 5: numbers are not taken for places then
    assert read_pairs(rows_of("1,4\n5,0\n", path), N, tuple("abcdef")).known[1, 4] == 1
    with pytest.raises(
        InputError, match="items must have different ids to go by them, got the same for some"
    ):
        read_pairs(rows_of("a,b\n", path), N, ("a", "b", "c", "a", "e", "f"))


@pytest.mark.parametrize(
    ("pairs", "similar", "message"),
    [
        (PAIRS, np.array([1, -1, 1, -1]), r"similar must be bool \(4,\), got int64"),
        (PAIRS, SIMILAR[1:], r"similar must be bool \(4,\), got bool \(3,\)"),
        (PAIRS[:, [0, 1, 1]], SIMILAR, r"pairs must be integers \(m, 2\), got int64 \(4, 3\)"),
        (PAIRS.astype(float), SIMILAR, r"pairs must be integers \(m, 2\), got float64"),
    ],
)
def test_arrays_must_be_pairs(pairs, similar, message):
    with pytest.raises(InputError, match=message):
        Pairs.of(N, pairs, similar)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(form, tmp_path):
    found = read_pairs(write(tmp_path / f"pairs{FORMS[form]}", form), N, IDS if form == "csv ids" else None)
    assert np.array_equal(found.known.toarray(), MATRIX)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_as_spreadsheets_write_it(encoding, tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b,similar\n0,1,1\n2,4,0\n", encoding=encoding)
    assert read_pairs(tmp_path / "pairs.csv", N).known[0, 1] == 1


def test_names_may_hold_any_bytes(tmp_path):
    (tmp_path / "pairs.csv").write_bytes(b"\xff.png,a.png,1\n")
    ids = ("a.png", b"\xff.png".decode("utf-8", "surrogateescape"))
    assert read_pairs(tmp_path / "pairs.csv", 2, ids).known[0, 1] == 1


def test_two_columns_are_similar_pairs(tmp_path):
    expected = np.abs(MATRIX)
    text = rows_of("".join(f"{i},{j}\n" for i, j in PAIRS), tmp_path / "pairs.csv")
    np.save(tmp_path / "pairs.npy", PAIRS)
    np.savez(tmp_path / "pairs.npz", pairs=PAIRS)
    for path in (text, tmp_path / "pairs.npy", tmp_path / "pairs.npz"):
        assert np.array_equal(read_pairs(path, N).known.toarray(), expected)


def test_items_with_ids_may_go_by_numbers(tmp_path):
    path = rows_of("0,1,1\n3,4,0\n", tmp_path / "pairs.csv")
    assert read_pairs(path, N, ("a", "b", "c", "d", "e", "f")).known[0, 1] == 1
    # An item that is called by a number is meant by its name.
    assert read_pairs(rows_of("2,e.png,1\n", path), N, IDS).known[2, 4] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold pairs, got none"),
        ("a,b,similar\n", "must hold pairs, got none"),
        ("0,1,1\n0,1,1,1\n", "line 2 must have 2 or 3 columns as line 1, got 4"),
        ("0,1,1\n\n0,2\n", "line 3 must have 2 or 3 columns as line 1, got 2"),
        ("0\n", "line 1 must have 2 or 3 columns"),
        ("0,1,maybe\n", "line 1 must end with 1 .similar. or 0, got 'maybe'"),
        ("0,1,1\n0,6,1\n", "line 2 must name two items by numbers from 0 to 5, got '6'"),
        ("0,1,1\n0,x,1\n", "line 2 must name two items by numbers from 0 to 5, got 'x'"),
        ("0,1,1\n3,3,1\n", "line 2 must name two items, got one twice"),
        ("c/1.JPG,c/2.JPG,1\n0,1,1\n", "line 1 must name two items by numbers from 0 to 5, got 'c/1.JPG'"),
        ("-1,-2,1\n0,1,1\n", "line 1 must name two items by numbers from 0 to 5, got '-1'"),
        ('0,1,1\n"0,2,1\n', "line 2 must be a row of a table"),
        ("0,1,0\n", "must have a pair of similar items, got 1 that are not"),
    ],
)  # fmt: skip
def test_text_that_is_refused(text, message, tmp_path):
    with pytest.raises(InputError, match=f"pairs.csv: {message}"):
        read_pairs(rows_of(text, tmp_path / "pairs.csv"), N)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
@pytest.mark.parametrize("header", ["", "a{0}b{0}similar\n", "\n\nimage 1{0}image 2\n"])
@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_numbers_alone_are_read_as_arrays(suffix, header, columns, end, tmp_path, monkeypatch):
    between = {".csv": ",", ".tsv": "\t", ".txt": " "}[suffix]
    if suffix == ".txt" and "image 1" in header:
        header = "a b\n"  # where spaces part the columns
    rows = [(*pair, int(yes)) for pair, yes in zip(PAIRS.tolist(), SIMILAR, strict=True)]
    text = header.format(between) + "".join(between.join(map(str, row[:columns])) + end for row in rows)
    path = tmp_path / f"pairs{suffix}"
    path.write_bytes(text.encode())
    fast = read_pairs(path, N)
    assert np.array_equal(fast.known.toarray(), MATRIX if columns == 3 else np.abs(MATRIX))
    assert (
        pairs_module._plain_numbers(pairs_module.read_text(path), between.strip(" ") or None, N, None)
        is not None
    )
    monkeypatch.setattr(pairs_module, "_plain_numbers", lambda *_: None)
    assert read_pairs(path, N).digest() == fast.digest()


@pytest.mark.parametrize(
    "text", ["", "a,b\n", "a,b", "0,1,yes\n", "0,1.0\n", "0,+1\n", '"0","1"\n', "0,1,2\n", "0,6\n", "-1,0\n", "3,3\n",
             "0\n", "0,1,1,1\n", "0,1\n2\n", "#0,1\n", "0,1\r2,3\r"]
)  # fmt: skip
def test_other_text_is_read_line_by_line(text):
    assert pairs_module._plain_numbers(text, ",", N, None) is None
    assert pairs_module._plain_numbers("0,1\n", ",", N, IDS) is None  # an item is called by a number


def test_a_first_line_that_names_an_item_is_no_header(tmp_path):
    assert pairs_module._plain_numbers("a,b,1\n0,2,0\n", ",", N, tuple("abcdef")) is None
    with pytest.raises(InputError, match="line 2 must name two items of the set, got '0'"):
        read_pairs(rows_of("a,b,1\n0,2,0\n", tmp_path / "pairs.csv"), N, tuple("abcdef"))


def test_an_unknown_id_is_named(tmp_path):
    with pytest.raises(InputError, match="line 2 must name two items of the set, got 'g.png'"):
        read_pairs(rows_of("a.png,e.png,1\na.png,g.png,1\n", tmp_path / "pairs.csv"), N, IDS)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": PAIRS}, "must have the array pairs .m, 2., or similarity .6, 6., got other"),
        ({"pairs": PAIRS, "similarity": MATRIX}, "must have the array pairs"),
        ({"pairs": PAIRS.astype(float)}, "pairs must be integers or bools, got float64"),
        ({"pairs": PAIRS.T}, r"pairs must have shape \(m, 2\), got \(2, 4\)"),
        ({"pairs": PAIRS, "similar": SIMILAR[1:]}, r"similar must have shape \(4,\) as pairs has, got \(3,\)"),
        ({"pairs": PAIRS, "similar": np.arange(4)}, "similar must be 1, 0 or -1, got 0 to 3"),
        ({"pairs": PAIRS + 1}, r"pairs must hold item numbers from 0 to 5, got \[6, 1\] as pair 3"),
        ({"pairs": PAIRS - 1}, r"pairs must hold item numbers from 0 to 5, got \[-1, 0\] as pair 0"),
        ({"pairs": np.array([[1, 1]])}, r"pairs must be of two items, got \[1, 1\] as pair 0"),
        ({"similarity": MATRIX[:5]}, r"similarity must have shape \(6, 6\), got \(5, 6\)"),
        ({"similarity": MATRIX * 2}, "similarity must be 1, 0, or -1 .not known., got -2 to 2"),
        ({"similarity": np.triu(MATRIX)}, "similarity must be symmetric, got 1 in row 0, column 1, and 0 across"),
    ],
)  # fmt: skip
def test_arrays_that_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "pairs.npz", **arrays)
    with pytest.raises(InputError, match=f"pairs.npz: {message}"):
        read_pairs(tmp_path / "pairs.npz", N)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(
        InputError, match="pairs must be a file .csv, .tsv, .txt, .npy, .npz, .safetensors, got"
    ):
        read_pairs(tmp_path / "pairs.json", N)
    with pytest.raises(InputError, match="pairs.csv: cannot be read"):
        read_pairs(tmp_path / "pairs.csv", N)
    with pytest.raises(ValueError, match="pairs.npz: no such file"):
        read_pairs(tmp_path / "pairs.npz", N)
