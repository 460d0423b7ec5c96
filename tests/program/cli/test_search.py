"""``dshc search``: several queries of all kinds, what is predicted, ties, and the page with pictures."""

from __future__ import annotations

import json
import re
import shutil
import webbrowser
from pathlib import Path

import numpy as np
import pytest
from cli_runs import dshc_fails, dshc_ok, write_embeddings
from PIL import Image
from typer.testing import CliRunner

from dshc.cli.app import app
from dshc.storage import CodeFile

N_FEATURES = 12


def search(*arguments: object) -> tuple[list[list[str]], list[str]]:
    """The rows of the table on stdout, without its head, and the lines on stderr."""
    result = CliRunner().invoke(app, ["search", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return [line.split("\t") for line in result.stdout.splitlines()[1:]], result.stderr.splitlines()


def answers(*arguments: object) -> list[dict[str, object]]:
    result = CliRunner().invoke(app, ["search", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def found_by(answer: dict[str, object]) -> list[tuple[int, int]]:
    """Index and distance of what was found, whether or not the query has a label to be judged by."""
    return [(result["index"], result["hamming"]) for result in answer["results"]]


def embeddings(path: Path) -> np.ndarray:
    with np.load(path) as file:
        return file["features"]


# ---- ties


@pytest.mark.parametrize("score", ["hamming", "overlap"])
@pytest.mark.parametrize("k", [1, 10, 96])
def test_the_tie_at_the_end_stands_below_the_table(run: Path, score: str, k: int) -> None:
    database = CodeFile.load(run / "codes" / "database.safetensors").codes
    queries = CodeFile.load(run / "codes" / "query.safetensors").codes
    items = (0, 5, 23)
    flags = [flag for item in items for flag in ("--item", item)]
    rows, lines = search(run, *flags, "--k", k, "--score", score)
    found = answers(run, *flags, "--k", k, "--score", score)
    assert len(rows) == 3 * k and len(lines) == len(found) == 3
    unit = "distance" if score == "hamming" else "overlap"
    for number, item in enumerate(items):
        both = queries[item] ^ database if score == "hamming" else queries[item] & database
        distances = np.unpackbits(both, axis=1).sum(axis=1)
        shown = [int(row[2]) for row in rows[number * k : number * k + k]]
        last, total = shown[-1], int((distances == shown[-1]).sum())
        tied = {score: last, "items": total, "shown": shown.count(last)}
        assert found[number]["tied"] == tied
        noun = "item" if total == 1 else "items"
        assert lines[number].endswith(f"; {shown.count(last)} of {total} {noun} at {unit} {last} shown")
    if k == 96:
        assert all(answer["tied"]["items"] == answer["tied"]["shown"] for answer in found)


# ---- predictions


def test_the_class_of_a_query_is_predicted(run: Path, tmp_path: Path) -> None:
    for answer in answers(run, write_embeddings(tmp_path / "new.npz", seed=3), "--k", 1):
        assert answer["predicted"] in "012" and answer["right"] is (answer["predicted"] == answer["label"])
    bare = tmp_path / "bare.npy"
    np.save(bare, embeddings(tmp_path / "new.npz")[:2])
    for answer in answers(run, bare, "--k", 1):
        assert answer["predicted"] == "0" and answer["right"] is None and answer["label"] == ""
    _, lines = search(run, bare, "--k", 1)
    assert [re.match(r"\d: predicted 0; 1 of ", line) is not None for line in lines] == [True, True]


def test_a_query_of_the_run_has_its_prediction(run: Path, tmp_path: Path) -> None:
    found = answers(run, "--item", 3, "--k", 2)[0]
    assert found["predicted"] == found["label"] and found["right"] is True
    _, lines = search(run, "--item", 3, "--k", 2)
    assert f"predicted {found['label']}, right; " in lines[0]
    # Codes and weights are all that a search needs: without the data there is no prediction.
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    settings = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(settings.replace("embeddings.npz", "gone.npz"))
    moved = answers(copy, "--item", 3, "--k", 2)[0]
    assert moved["predicted"] is None and moved["results"] == found["results"]


def test_what_predicts_nothing_says_nothing_of_it(run: Path, tmp_path: Path) -> None:
    fitted = tmp_path / "itq"
    data = write_embeddings(tmp_path / "data.npz")
    dshc_ok("train", data, "--method", "itq", "--bits", 8, "--out", fitted, "--no-report")
    found = answers(fitted, data, "--k", 1)[0]
    assert found["predicted"] is None and found["right"] is None
    assert "predicted" not in "".join(search(fitted, data, "--k", 1)[1])
    assert answers(run / "codes" / "database.safetensors", "--item", 0)[0]["predicted"] is None


def test_a_folder_with_some_of_the_classes_is_judged(image_run: Path, tmp_path: Path) -> None:
    shutil.copytree(image_run.parent / "images" / "green", tmp_path / "few" / "green")
    for answer in answers(image_run, tmp_path / "few", "--k", 3):
        assert answer["label"] == "green" and answer["right"] is not None
        assert [r["relevant"] for r in answer["results"]] == [
            r["label"] == "green" for r in answer["results"]
        ]


# ---- several queries


def test_one_embedding_is_one_query(run: Path, tmp_path: Path) -> None:
    features = embeddings(write_embeddings(tmp_path / "new.npz", seed=4))
    np.save(tmp_path / "one.npy", features[7])
    np.save(tmp_path / "row.npy", features[7:8])
    one, row = (answers(run, tmp_path / name, "--k", 4) for name in ("one.npy", "row.npy"))
    assert len(one) == len(row) == 1 and one[0]["results"] == row[0]["results"]
    out = tmp_path / "one.safetensors"
    assert "1 code of 9 bits, ids" in dshc_ok("encode", run, tmp_path / "one.npy", "--out", out)
    np.save(tmp_path / "double.npy", features[7].astype(np.float64))
    (double,) = answers(run, tmp_path / "double.npy", "--k", 4)
    assert double == one[0] | {"query": "double.npy"}
    np.save(tmp_path / "short.npy", features[7, :5])
    line = dshc_fails("search", run, tmp_path / "short.npy")
    assert "must have the shape that the run was trained on, (12,), got (5,)" in line
    np.save(tmp_path / "nan.npy", np.full(12, np.nan, np.float32))
    assert "nan.npy" in dshc_fails("search", run, tmp_path / "nan.npy")
    np.save(tmp_path / "object.npy", np.array([{}] * 12), allow_pickle=True)
    assert "never read" in dshc_fails("search", run, tmp_path / "object.npy")


def test_one_image_in_an_array_is_one_query(image_run: Path, tmp_path: Path) -> None:
    path = image_run.parent / "images" / "red" / "03.png"
    np.save(tmp_path / "photo.npy", np.asarray(Image.open(path).convert("RGB")))
    by_array, by_file = (answers(image_run, query, "--k", 4) for query in (tmp_path / "photo.npy", path))
    assert len(by_array) == 1 and by_array[0]["results"] == by_file[0]["results"]


def test_what_is_searched_for_comes_last(run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.zeros((1, N_FEATURES), np.float32))
    for name in ("a.png", "a.npy"):
        told = dshc_fails("search", tmp_path / name, run)
        assert f"{name}: must be a run or a code file; what is searched for comes after it" in told


def test_queries_keep_their_order(run: Path, tmp_path: Path) -> None:
    new = write_embeddings(tmp_path / "new.npz", seed=5)
    features = embeddings(new)
    np.save(tmp_path / "one.npy", features[70])
    codes = tmp_path / "codes.safetensors"
    dshc_ok("encode", run, new, "--out", codes)
    mixed = answers(run, tmp_path / "one.npy", codes, new, tmp_path / "one.npy", "--k", 3)
    alone = answers(run, new, "--k", 3)
    n = len(alone)
    assert len(mixed) == 2 * n + 2
    assert found_by(mixed[0]) == found_by(mixed[-1]) == found_by(alone[70])
    results = [answer["results"] for answer in mixed]
    assert results[1 : n + 1] == results[n + 1 : 2 * n + 1] == [answer["results"] for answer in alone]
    names = [answer["query"] for answer in mixed]
    assert names[0] == names[-1] == "one.npy"
    assert names[1] == f"{codes}: item-0" and names[n + 1] == f"{new}: item-0"


def test_images_and_folders_are_mixed(image_run: Path, tmp_path: Path) -> None:
    images = image_run.parent / "images"
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
        for i in (2, 0):
            shutil.copy(images / name / f"0{i}.png", tmp_path / name)
    paths = [
        tmp_path / "red" / "02.png",
        images / "green" / "07.png",
        tmp_path / "blue",
        tmp_path / "red" / "00.png",
    ]
    found = answers(image_run, *paths, "--k", 2)
    assert [answer["query"] for answer in found] == [
        f"{tmp_path}/red/02.png",
        "07.png",
        f"{tmp_path}/blue/00.png",
        f"{tmp_path}/blue/02.png",
        f"{tmp_path}/red/00.png",
    ]
    for answer, path in zip(
        found, [*paths[:2], paths[2] / "00.png", paths[2] / "02.png", paths[3]], strict=True
    ):
        assert answer["results"] == answers(image_run, path, "--k", 2)[0]["results"]


def test_a_folder_of_embeddings(run: Path, tmp_path: Path) -> None:
    features = embeddings(write_embeddings(tmp_path / "new.npz", seed=6))
    folder = tmp_path / "queries"
    folder.mkdir()
    np.save(folder / "b.npy", features[3])
    np.save(folder / "a.npy", features[:2])
    np.save(folder / ".hidden.npy", features[:2])
    (folder / "notes.txt").write_text("x")
    found = answers(run, folder, "--k", 2)
    assert [answer["query"] for answer in found] == ["0", "1", "b.npy"]
    alone = answers(run, tmp_path / "new.npz", "--k", 2)
    assert [found_by(answer) for answer in found] == [found_by(alone[i]) for i in (0, 1, 3)]
    (tmp_path / "empty").mkdir()
    assert "empty: must hold files of embeddings" in dshc_fails("search", run, tmp_path / "empty")


def test_as_many_are_printed_as_are_named(image_run: Path) -> None:
    paths = sorted((image_run.parent / "images" / "red").iterdir())[:8]
    rows, lines = search(image_run, *paths, "--k", 1)
    assert [row[0] for row in rows] == [path.name for path in paths] and len(lines) == 8
    rows, lines = search(image_run, *paths, "--k", 1, "--show", 2)
    assert len(rows) == 2 and lines[-1].startswith("6 more queries not shown")
    rows, lines = search(image_run, image_run.parent / "images" / "red", "--k", 1)
    assert len(rows) == 5 and lines[-1].startswith("10 more queries not shown")
    rows, _ = search(image_run, *(flag for i in range(7) for flag in ("--item", i)), "--k", 1)
    assert len(rows) == 7


def test_the_query_that_cannot_be_read_is_named(image_run: Path, run: Path, tmp_path: Path) -> None:
    good = image_run.parent / "images" / "red" / "00.png"
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    for paths in ((good, broken), (broken, good), (good, good.parent, broken)):
        line = dshc_fails("search", image_run, *paths, "--gallery", tmp_path / "page.html")
        assert "broken.png" in line and "00.png" not in line
    assert "gone.jpg" in dshc_fails("search", image_run, good, tmp_path / "gone.jpg")
    assert "gone.npy" in dshc_fails("search", run, tmp_path / "gone.npy")
    assert not (tmp_path / "page.html").exists()


def test_what_is_left_out_of_a_folder_is_said(image_run: Path, tmp_path: Path) -> None:
    shutil.copy(image_run.parent / "images" / "red" / "00.png", tmp_path / "a.png")
    (tmp_path / "film.mp4").write_bytes(b"x")
    rows, lines = search(image_run, tmp_path, "--k", 1)
    assert len(rows) == 1 and "1 image read, 1 file skipped: 1 .mp4" in lines[0]
    result = CliRunner().invoke(
        app, ["encode", str(image_run), str(tmp_path), "--out", str(tmp_path / "codes.safetensors")]
    )
    assert "1 image read, 1 file skipped: 1 .mp4" in result.stderr and result.exit_code == 0
    assert "read" not in result.stdout


def test_names_that_are_not_utf8(image_run: Path, tmp_path: Path) -> None:
    path = tmp_path / b"\xffphoto\x1b[31m.png".decode("utf-8", "surrogateescape")
    try:
        shutil.copy(image_run.parent / "images" / "red" / "00.png", path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    rows, lines = search(image_run, path, "--k", 1, "--gallery", tmp_path)
    assert rows[0][0] == r"\xffphoto\x1b[31m.png" and lines[0].startswith(r"\xffphoto\x1b[31m.png: ")
    assert answers(image_run, path, "--k", 1)[0]["query"] == "\\xffphoto\x1b[31m.png"
    assert r"\xffphoto\x1b[31m.png" in (tmp_path / "gallery.html").read_text()
    rows, _ = search(image_run, tmp_path, "--k", 1)
    assert rows[0][0] == r"\xffphoto\x1b[31m.png"


# ---- what does not go together


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give either a QUERY (image, folder, array or code file) or --item NUMBER, got neither"),
        (("x.jpg", "--item", 0), "or --item NUMBER, got both"),
        (("--item", 0, "--run", "x"), "--run must go with a code file to search"),
        (("--item", 0, "--gallery", "page.png"), "--gallery must name an .html file or an existing folder"),
        (("--item", 0, "--gallery", "nowhere/"), "--gallery must name an .html file or an existing folder"),
        (("--item", 0, "--item", 24), "--item must lie in 0..23, got 24"),
        (("--item", 0, "--show", 0), "--show"),
    ],
)
def test_wrong_arguments(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in dshc_fails("search", run, *arguments)
    assert not list(tmp_path.iterdir())


def test_the_page_replaces_no_file_of_a_run(run: Path) -> None:
    before = (run / "report.html").read_bytes()
    line = dshc_fails("search", run, "--item", 0, "--gallery", run / "report.html")
    assert "--gallery must not be one of a run's own files" in line
    assert (run / "report.html").read_bytes() == before


# ---- the page


def n_pictures(page: Path) -> int:
    return page.read_text(encoding="utf-8").count('src="data:image/')


def test_the_page_shows_queries_and_results(image_run: Path, tmp_path: Path) -> None:
    images = image_run.parent / "images"
    page = tmp_path / "page.html"
    _, lines = search(image_run, images / "red" / "00.png", images / "blue", "--k", 4, "--gallery", page)
    assert f"gallery: {page}" in lines[-1]
    assert n_pictures(page) == 5 * (1 + 4)
    text = page.read_text(encoding="utf-8")
    assert "11 more queries are not shown" in text and "predicted red" in text and "http:" not in text
    before = page.read_bytes()
    search(image_run, images / "red" / "00.png", images / "blue", "--k", 4, "--gallery", page)
    assert page.read_bytes() == before, "written anew, to equal bytes"


def test_the_page_has_a_name_in_a_folder(image_run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["search", str(image_run), "--item", "1", "--k", "3", "--json", "--gallery", str(tmp_path)]
    )
    assert len(result.stdout.splitlines()) == 1 and json.loads(result.stdout)["tied"]
    assert f"gallery: {tmp_path / 'gallery.html'}" in result.stderr
    assert n_pictures(tmp_path / "gallery.html") == 4


def test_the_page_of_features_and_of_bare_codes_has_names(run: Path, image_run: Path, tmp_path: Path) -> None:
    search(run, "--item", 1, "--k", 3, "--gallery", tmp_path / "features.html")
    search(image_run / "codes" / "database.safetensors", "--item", 1, "--gallery", tmp_path / "codes.html")
    for name, words in (("features.html", "item-"), ("codes.html", ".png")):
        assert n_pictures(tmp_path / name) == 0 and words in (tmp_path / name).read_text()


def test_the_code_file_of_a_run_has_its_pictures(image_run: Path, tmp_path: Path) -> None:
    photo = image_run.parent / "images" / "red" / "00.png"
    own = image_run / "codes" / "database.safetensors"
    search(own, photo, "--run", image_run, "--k", 3, "--gallery", tmp_path / "own.html")
    assert n_pictures(tmp_path / "own.html") == 4
    other = shutil.copy(own, tmp_path / "other.safetensors")
    search(other, photo, "--run", image_run, "--k", 3, "--gallery", tmp_path / "other.html")
    assert n_pictures(tmp_path / "other.html") == 1, "the query alone is known to be an image"


def test_the_page_without_the_images_of_the_run(image_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(image_run, copy)
    settings = (copy / "config.toml").read_text()
    moved = settings.replace(str(image_run.parent / "images"), str(tmp_path / "gone"))
    assert moved != settings
    (copy / "config.toml").write_text(moved)
    photo = image_run.parent / "images" / "red" / "00.png"
    search(copy, photo, "--k", 3, "--gallery", tmp_path)
    page = tmp_path / "gallery.html"
    assert n_pictures(page) == 1 and "no pictures of the items: " in page.read_text()


@pytest.mark.parametrize("outcome", [True, False, webbrowser.Error("none"), OSError("none")])
def test_the_page_is_opened(
    image_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: object
) -> None:
    opened = []

    def open_page(address: str, *_: object, **__: object) -> bool:
        opened.append(address)
        if isinstance(outcome, Exception):
            raise outcome
        return bool(outcome)

    monkeypatch.setattr(webbrowser, "open", open_page)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    page = tmp_path / "a page.html"
    _, lines = search(image_run, "--item", 0, "--k", 2, "--gallery", page, "--open")
    assert opened == [page.as_uri()]
    assert (f"dshc: no browser could be started here; open {page} in one" in lines) is (outcome is not True)
    search(image_run, "--item", 0, "--k", 2, "--open")
    alone = Path(opened[1].removeprefix("file://"))
    assert alone.name == "gallery.html" and alone.is_relative_to(tmp_path) and n_pictures(alone) == 3
    search(image_run, "--item", 0, "--k", 2)
    assert len(opened) == 2
