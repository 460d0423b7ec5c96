"""Folders of images and single ones on the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_runs import dshc, dshc_fails, dshc_ok, write_images
from PIL import Image

from dshc.data import ImageFiles
from dshc.runs import load_run
from dshc.runs.encoding import read_input
from dshc.storage import CodeFile


def test_images_of_a_folder_round_trip(image_run: Path, tmp_path: Path) -> None:
    images = image_run.parent / "images"
    out = tmp_path / "codes.safetensors"
    dshc_ok("encode", image_run, images, "--out", out)
    file = CodeFile.load(out)
    assert file.class_names == ("blue", "green", "red") and len(file) == 45
    assert file.ids[0].endswith("00.png")
    dshc_ok("evaluate", out, out, "--no-report")


@pytest.mark.parametrize("inside", (".", "runs/new", "../images/x"))
def test_a_run_is_not_written_into_its_images(inside: str, tmp_path: Path) -> None:
    """The next reading would take its folders for classes."""
    images = write_images(tmp_path / "images")
    before = sorted(images.rglob("*"))
    for command in ("train", "compare"):
        told = dshc_fails(command, images, "--out", images / inside, "--bits", 8)
        assert "must not lie in the folder of images" in told
    assert sorted(images.rglob("*")) == before


def test_the_memory_limit_of_the_run_holds_for_what_it_encodes(image_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(image_run, tmp_path / "run")
    config = run / "config.toml"
    config.write_text(config.read_text().replace("max_memory_mib = 1024", "max_memory_mib = 0"))
    images = image_run.parent / "images"
    few, whole = load_run(run), load_run(image_run)
    assert isinstance(read_input(str(images), few).inputs, ImageFiles)
    assert not isinstance(read_input(str(images), whole).inputs, ImageFiles)
    dshc_ok("encode", run, images, "--out", tmp_path / "few.safetensors")
    dshc_ok("encode", image_run, images, "--out", tmp_path / "whole.safetensors")
    assert (tmp_path / "few.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_one_image_and_a_flat_folder_are_queries(image_run: Path, tmp_path: Path) -> None:
    # Of another size and with an alpha channel: brought to what the run was trained on.
    large = Image.open(image_run.parent / "images" / "red" / "00.png").resize((40, 30)).convert("RGBA")
    (tmp_path / "flat").mkdir()
    for i in range(3):
        large.save(tmp_path / "flat" / f"photo {i}.png")
    *lines, note = dshc_ok("search", image_run, tmp_path / "flat" / "photo 0.png", "--k", 5).splitlines()
    assert note.startswith("photo 0.png: predicted red; ")
    assert len(lines) == 6 and lines[1].split("\t")[0] == "photo 0.png"
    assert all(line.split("\t")[6] == "" for line in lines[1:]), "an unlabelled query has no relevant items"
    out = tmp_path / "flat.safetensors"
    assert "3 codes of 9 bits, ids" in dshc_ok("encode", image_run, tmp_path / "flat", "--out", out)
    assert CodeFile.load(out).labels is None


@pytest.mark.deep
def test_the_report_of_images_shows_them(image_run: Path, tmp_path: Path) -> None:
    dshc_ok("evaluate", image_run, "--out", tmp_path)
    assert 'class="gallery' in (tmp_path / "report.html").read_text()
    assert (tmp_path / "report" / "gallery.png").stat().st_size > 5000


def test_unreadable_images_are_left_out_as_in_the_training(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    (images / "red" / "broken.png").write_bytes(b"no image")
    flags = ("--no-pretrained", "--image-size", 12, "--bits", 9, "--epochs", 1, "--width", 4, "--no-report")
    output = dshc_ok("train", images, *flags, "--out", tmp_path / "run", "--skip-unreadable")
    assert output.count("1 unreadable image left out") == 1
    out = tmp_path / "codes.safetensors"
    output = dshc_ok("encode", tmp_path / "run", images, "--out", out)
    assert "1 unreadable image left out" in output and len(CodeFile.load(out)) == 45
    code, output = dshc("search", tmp_path / "run", images / "red" / "broken.png", "--k", 1)
    assert code == 2 and "broken.png" in output
