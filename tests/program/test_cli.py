"""The command line on small runs: train, encode, evaluate and search embeddings and images; the demo."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runs import (
    N_CLASSES,
    PER_CLASS,
    dshc,
    dshc_ok,
    train_embeddings,
    train_images,
    write_embeddings,
    write_images,
)
from PIL import Image

import dshc_fast
from dshc.config import Config
from dshc.index import CodeFile

COMMANDS = ("demo", "train", "encode", "evaluate", "search", "codebook", "doctor")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run on embeddings; tests do not change it."""
    return train_embeddings(tmp_path_factory.mktemp("embeddings"))


@pytest.fixture(scope="module")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run on a folder of images; tests do not change it."""
    return train_images(tmp_path_factory.mktemp("images"))


# ---- help
# -----------------------------------------------------------------------------------------------------


def test_help_lists_every_command() -> None:
    for output in (dshc_ok("--help"), dshc_ok()):
        for command in COMMANDS:
            assert command in output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_explains_every_flag(command: str) -> None:
    output = dshc_ok(command, "--help")
    assert "Usage" in output and "None" not in output
    assert max(map(len, output.splitlines())) <= 100
    for line in output.splitlines():
        if line.startswith("│ --"):
            words = line.strip("│ ").split("  ")
            assert len(words) > 1, f"no help: {line}"


def test_train_has_a_flag_for_every_setting() -> None:
    output = dshc_ok("train", "--help")
    for field in dataclasses.fields(Config):
        if field.name != "dataset":
            assert "--" + field.name.replace("_", "-") in output, field.name


def test_the_manual_names_every_command() -> None:
    manual = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"\n## {command}\n" in manual


def test_version() -> None:
    assert dshc_fast.__version__ in dshc_ok("--version")


# ---- a run on embeddings
# --------------------------------------------------------------------------------------


def test_train_leaves_a_whole_run_folder(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    files = "config.toml split.json metrics.jsonl codebook.safetensors best.safetensors model.safetensors"
    assert set(files.split()) | {"evaluation.json", "report.html", "report", "codes", "checkpoint"} == names
    assert not list(run.rglob("*.tmp"))
    document = json.loads((run / "evaluation.json").read_text())
    assert document["schema"] == "dshc.evaluation/1"
    assert document["mean_average_precision"]["value"] > 0.9
    assert set(document["class_accuracy"]) == {"queries", "database"}
    page = (run / "report.html").read_text()
    split = json.loads((run / "split.json").read_text())
    assert split["checksum"] in page and "item-" in page


def test_evaluate_prints_every_number_with_its_conventions(run: Path, tmp_path: Path) -> None:
    output = dshc_ok("evaluate", run, "--out", tmp_path, "--no-report")
    lines = output.splitlines()
    n_query = N_CLASSES * PER_CLASS // 5
    sizes = f"{n_query} queries, {N_CLASSES * PER_CLASS - n_query} database"
    assert lines[0].startswith("mAP@all ") and f"(ties=expected, denominator=retrieved, {sizes})" in lines[0]
    assert lines[1].startswith("class accuracy (queries) ") and "top-1" in lines[1]
    for line in lines[4:-1]:
        assert len(line.split("\t")) == 3 and line.split("\t")[2], line
    assert json.loads((tmp_path / "evaluation.json").read_text())["conventions"]["ties"] == "expected"
    assert not (tmp_path / "report.html").exists()


def test_evaluate_takes_every_convention(run: Path, tmp_path: Path) -> None:
    flags = (
        "--k",
        5,
        "--k",
        20,
        "--ties",
        "worst",
        "--denominator",
        "min",
        "--empty",
        "skip",
        "--score",
        "overlap",
    )
    output = dshc_ok("evaluate", run, *flags, "--out", tmp_path, "--json", "--per-query", "--no-report")
    document = json.loads(output)
    assert document["conventions"] == {
        "k": 5,
        "ties": "worst",
        "denominator": "min",
        "score": "overlap",
        "empty": "skip",
    }
    assert [cut["k"] for cut in document["mean_average_precision"]["at_k"]] == [20]
    assert len(document["average_precision"]) == document["counts"]["n_query"]


def test_encode_evaluate_and_search_agree(run: Path, tmp_path: Path) -> None:
    queries = write_embeddings(tmp_path / "new.npz", seed=5)
    codes = tmp_path / "new.safetensors"
    assert f"{N_CLASSES * PER_CLASS} codes of 9 bits, labels and ids" in dshc_ok(
        "encode", run, queries, "--out", codes
    )
    file = CodeFile.load(codes)
    assert file.ids[0] == "item-0" and np.bincount(file.labels).tolist() == [PER_CLASS] * N_CLASSES

    database = run / "codes" / "database.safetensors"
    document = json.loads(dshc_ok("evaluate", codes, database, "--json"))
    operands = (file.codes, CodeFile.load(database).codes, file.labels, CodeFile.load(database).labels)
    expected = dshc_fast.mean_average_precision(*operands, n_bits=9)
    assert document["mean_average_precision"]["value"] == pytest.approx(expected)

    lines = dshc_ok("search", database, codes, "--k", 4, "--json").splitlines()
    found = dshc_fast.hamming_topk(*operands[:2], 4)
    assert len(lines) == len(file)
    for position, line in enumerate(lines):
        answer = json.loads(line)
        assert answer["query"] == f"item-{position}"
        assert [result["index"] for result in answer["results"]] == found.indices[position].tolist()
        assert [result["hamming"] for result in answer["results"]] == found.distances[position].tolist()
    by_run = dshc_ok("search", run, queries, "--k", 4, "--json").splitlines()
    assert by_run == lines


def test_encoding_twice_gives_equal_bytes(run: Path, tmp_path: Path) -> None:
    data = write_embeddings(tmp_path / "data.npz", seed=6)
    paths = [tmp_path / f"{i}.safetensors" for i in range(2)]
    for path in paths:
        dshc_ok("encode", run, data, "--out", path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_evaluate_two_code_files_writes_only_where_asked(run: Path, tmp_path: Path) -> None:
    codes = run / "codes"
    before = set(codes.iterdir())
    dshc_ok("evaluate", codes / "query.safetensors", codes / "database.safetensors")
    assert set(codes.iterdir()) == before
    output = dshc_ok(
        "evaluate", codes / "query.safetensors", codes / "database.safetensors", "--out", tmp_path / "out"
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "evaluation.json",
        "report.html",
        "report",
    }
    assert str(tmp_path / "out" / "report.html") in output


def test_search_by_item_prints_a_table(run: Path) -> None:
    lines = dshc_ok("search", run, "--item", 2, "--k", 3).splitlines()
    assert lines[0].split("\t") == ["query", "rank", "hamming", "index", "id", "label", "relevant"]
    assert [line.split("\t")[1] for line in lines[1:]] == ["1", "2", "3"]
    assert all(line.split("\t")[6] in ("yes", "no") for line in lines[1:])
    first = dshc_ok(
        "search", run / "codes" / "database.safetensors", "--item", 0, "--k", 1, "--score", "hamming"
    )
    assert first.splitlines()[1].split("\t")[2] == "0"


def test_search_encodes_anew_where_the_weights_changed(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    path = copy / "codes" / "database.safetensors"
    stored = CodeFile.load(path)
    wrong = dataclasses.replace(stored, codes=stored.codes[::-1].copy(), model="another model")
    wrong.save(path)
    dshc_ok("search", copy, "--item", 0, "--k", 1)
    assert np.array_equal(CodeFile.load(path).codes, stored.codes)


def test_show_limits_what_is_printed_not_what_is_found(run: Path) -> None:
    queries = run / "codes" / "query.safetensors"
    output = dshc_ok("search", run, queries, "--k", 2, "--show", 3)
    assert sum("\t1\t" in line for line in output.splitlines()) >= 3
    assert "more queries not shown" in output
    assert len(dshc_ok("search", run, queries, "--k", 2, "--json").splitlines()) == len(
        CodeFile.load(queries)
    )


# ---- a run on images
# ------------------------------------------------------------------------------------------


def test_images_of_a_folder_round_trip(image_run: Path, tmp_path: Path) -> None:
    images = image_run.parent / "images"
    out = tmp_path / "codes.safetensors"
    dshc_ok("encode", image_run, images, "--out", out)
    file = CodeFile.load(out)
    assert file.class_names == ("blue", "green", "red") and len(file) == 45
    assert file.ids[0].endswith("00.png")
    dshc_ok("evaluate", out, out, "--no-report")


def test_one_image_and_a_flat_folder_are_queries(image_run: Path, tmp_path: Path) -> None:
    # Of another size and with an alpha channel: brought to what the run was trained on.
    large = Image.open(image_run.parent / "images" / "red" / "00.png").resize((40, 30)).convert("RGBA")
    (tmp_path / "flat").mkdir()
    for i in range(3):
        large.save(tmp_path / "flat" / f"photo {i}.png")
    lines = dshc_ok("search", image_run, tmp_path / "flat" / "photo 0.png", "--k", 5).splitlines()
    assert len(lines) == 6 and lines[1].split("\t")[0] == "photo 0.png"
    assert all(line.split("\t")[6] == "" for line in lines[1:]), "an unlabelled query has no relevant items"
    out = tmp_path / "flat.safetensors"
    assert "3 codes of 9 bits, ids" in dshc_ok("encode", image_run, tmp_path / "flat", "--out", out)
    assert CodeFile.load(out).labels is None


def test_the_report_of_images_shows_them(image_run: Path, tmp_path: Path) -> None:
    dshc_ok("evaluate", image_run, "--out", tmp_path)
    assert "class='gallery'" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "report" / "gallery.png").stat().st_size > 5000


# ---- training flags
# -------------------------------------------------------------------------------------------


def test_settings_from_a_file_and_flags_over_it(tmp_path: Path) -> None:
    data = write_embeddings(tmp_path / "data.npz")
    settings = tmp_path / "settings.toml"
    settings.write_text(f'dataset = "{data}"\nepochs = 3\nwidth = 8\nbits = 9\nout = "{tmp_path / "run"}"\n')
    dshc_ok("train", "--config", settings, "--epochs", 1, "--no-report")
    config = Config.from_toml(tmp_path / "run" / "config.toml")
    assert (config.epochs, config.width, config.bits) == (1, 8, 9)
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_run_is_kept_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_embeddings(tmp_path / "data.npz")
    flags = ("train", data, "--epochs", 1, "--width", 8, "--bits", 9, "--no-report")
    dshc_ok(*flags)
    assert (tmp_path / "runs" / "data" / "config.toml").is_file(), "the default folder is runs/NAME"
    before = (tmp_path / "runs" / "data" / "best.safetensors").read_bytes()
    code, output = dshc(*flags, "--seed", 1)
    assert code == 2 and "holds a run" in output
    assert (tmp_path / "runs" / "data" / "best.safetensors").read_bytes() == before
    (tmp_path / "runs" / "data" / "notes.txt").write_text("mine")
    dshc_ok(*flags, "--seed", 1, "--overwrite")
    assert (tmp_path / "runs" / "data" / "best.safetensors").read_bytes() != before
    assert (tmp_path / "runs" / "data" / "notes.txt").read_text() == "mine"


def test_resuming_a_finished_run_changes_no_weight(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    dshc_ok("train", "--resume", "--out", copy, "--no-report")
    for name in ("best.safetensors", "model.safetensors"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()


# ---- codebook, doctor, demo
# -----------------------------------------------------------------------------------


def test_codebook_shows_and_saves(tmp_path: Path) -> None:
    from dshc.codebooks import Codebook

    out = tmp_path / "book.safetensors"
    output = dshc_ok("codebook", "--classes", 10, "--bits", 30, "--codes", "--out", out)
    table = dict(line.split("\t")[:2] for line in output.splitlines() if line.count("\t") == 1)
    assert table["sub-classes"] == "310" and table["least distance between classes"] == "4"
    assert "111" + "0" * 27 in output
    assert Codebook.load(out).n_subclasses == 310
    document = json.loads(dshc_ok("codebook", "--classes", 10, "--bits", 30, "--json"))
    assert document["n_subclasses"] == 310 and document["collisions"] == 0


def test_codebook_warns_in_one_line() -> None:
    output = dshc_ok("codebook", "--classes", 10, "--bits", 10)
    warnings = [line for line in output.splitlines() if line.startswith("dshc: warning: ")]
    assert len(warnings) == 1 and "46 codes" in warnings[0]


def test_doctor_checks_the_core() -> None:
    assert "all checks passed" in dshc_ok("doctor")
    document = json.loads(dshc_ok("doctor", "--json"))
    assert set(document["checks"].values()) == {"ok"}
    assert document["facts"]["dshc_fast"] == dshc_fast.__version__


def test_doctor_finds_a_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def reversed_ranking(queries: np.ndarray, database: np.ndarray, k: int) -> dshc_fast.HammingTopK:
        distances = dshc_fast.hamming_distance(queries, database)
        order = np.argsort(-distances, axis=1, kind="stable")[:, :k]
        return dshc_fast.HammingTopK(np.take_along_axis(distances, order, 1), order)

    monkeypatch.setattr(dshc_fast, "hamming_topk", reversed_ranking)
    code, output = dshc("doctor")
    assert code == 1 and "ranking against a stable sort\twrong result" in output
    assert "cannot be trusted" in output


@pytest.mark.deep
def test_demo_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    output = dshc_ok("demo", "--out", out, "--threads", 1)
    headline = next(line for line in output.splitlines() if line.startswith("mAP@all"))
    assert float(headline.split()[1]) >= 0.98, headline
    assert "(ties=expected, denominator=retrieved, 360 queries, 1437 database)" in headline
    assert "class accuracy (queries)" in output
    assert (out / "report.html").is_file() and (out / "report" / "gallery.png").is_file()
    answer = json.loads(dshc_ok("search", out, "--item", 0, "--k", 10, "--json"))
    assert len(answer["results"]) == 10


def test_evaluating_elsewhere_leaves_the_run_alone(run: Path, tmp_path: Path) -> None:
    def state() -> dict[Path, tuple[bytes, int]]:
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.rglob("*") if p.is_file()}

    before = state()
    dshc_ok("evaluate", run, "--out", tmp_path / "out")
    assert state() == before
    assert (tmp_path / "out" / "evaluation.json").is_file()


def test_a_folder_is_taken_as_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_embeddings(tmp_path / "data.npz")
    flags = ("--epochs", 1, "--width", 8, "--bits", 9, "--no-report")
    dshc_ok("train", data, *flags, "--out", "runs/default")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["default"]


def test_few_codes_need_no_k(run: Path, tmp_path: Path) -> None:
    database = CodeFile.load(run / "codes" / "database.safetensors")
    few = CodeFile(database.codes[:4], 9).save(tmp_path / "few.safetensors")
    assert len(dshc_ok("search", few, "--item", 0).splitlines()) == 5
    code, output = dshc("search", few, "--item", 0, "--k", 10)
    assert code == 2 and "--k must lie in 1..4" in output


def test_unreadable_images_are_left_out_as_in_the_training(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    (images / "red" / "broken.png").write_bytes(b"no image")
    flags = ("--image-size", 12, "--bits", 9, "--epochs", 1, "--width", 4, "--no-report")
    output = dshc_ok("train", images, *flags, "--out", tmp_path / "run", "--skip-unreadable")
    assert output.count("1 unreadable images left out") == 1
    out = tmp_path / "codes.safetensors"
    output = dshc_ok("encode", tmp_path / "run", images, "--out", out)
    assert "1 unreadable images left out" in output and len(CodeFile.load(out)) == 45
    code, output = dshc("search", tmp_path / "run", images / "red" / "broken.png", "--k", 1)
    assert code == 2 and "broken.png" in output
