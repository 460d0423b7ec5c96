"""Settings on the command line: flags, --set and --config, and which of them wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_runs import dshc, dshc_fails, dshc_ok, write_embeddings

from dshc.cli import train as command
from dshc.runs import RunSettings


class Caught(Exception):
    """Carries the settings a training would have had."""


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings that ``dshc train`` and its arguments would train by."""

    def stop(settings: RunSettings, **_: object) -> None:
        raise Caught(settings)

    monkeypatch.setattr(command, "train", stop)
    caught: list[RunSettings] = []
    real = command._train_and_measure

    def catching(settings: RunSettings, **options: Any) -> Any:
        try:
            return real(settings, **options)
        except Caught as found:
            caught.append(found.args[0])
            raise SystemExit(0) from None

    monkeypatch.setattr(command, "_train_and_measure", catching)

    def run(*arguments: object) -> RunSettings:
        dshc_ok("train", *arguments)
        return caught.pop()

    return run


def test_flags_reach_their_tables(settings_of: Any) -> None:
    flags = "--flip --no-crop --width 8 --bits 20 --topk 2 --lr 0.5 --seed 7 --schedule step --backbone-lr 1"
    settings = settings_of("digits", *flags.split(), "--out", "here")
    assert settings["data.flip"] is True and settings["data.crop"] is False
    assert settings["data.standardize"] is None, "what is not given stays open"
    assert (settings["encoder.width"], settings["method.bits"], settings["method.topk"]) == (8, 20, 2)
    assert (settings["optim.lr"], settings["optim.backbone_lr"], settings["runtime.seed"]) == (0.5, 1.0, 7)
    assert settings["optim.schedule"] == "step" and settings.out == "here"
    assert settings["data.source"] == "digits"


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("optim.lr=0.25", "optim.lr", 0.25),
        ("optim.lr=1", "optim.lr", 1.0),
        ("optim.lr = 5e-3", "optim.lr", 5e-3),
        ("optim.epochs=3", "optim.epochs", 3),
        ("data.flip=true", "data.flip", True),
        ("data.flip=false", "data.flip", False),
        ("data.root=/somewhere/else", "data.root", "/somewhere/else"),
        ('data.root="a = b"', "data.root", "a = b"),
        ("data.root=a=b", "data.root", "a=b"),
        ('data.labels="2024"', "data.labels", "2024"),
        ("method.construction=kbc", "method.construction", "kbc"),
        ("method.name=itq", "method.name", "itq"),
        ("method=itq", "method.name", "itq"),
        ("lr=0.25", "optim.lr", 0.25),
        ("runtime.device=cpu", "runtime.device", "cpu"),
    ],
)
def test_set_takes_toml_and_text(settings_of: Any, assignment: str, name: str, value: object) -> None:
    found = settings_of("digits", "--set", assignment)[name]
    assert found == value and type(found) is type(value)


def test_set_wins_over_flags_and_the_last_of_two_wins(settings_of: Any) -> None:
    settings = settings_of(
        "digits", "--set", "optim.lr=0.1", "--lr", 0.7, "--set", "optim.epochs=4", "--epochs", 9
    )
    assert (settings["optim.lr"], settings["optim.epochs"]) == (0.1, 4)
    for both in (("optim.lr=0.1", "lr=0.2"), ("lr=0.1", "optim.lr=0.2")):
        flags = [part for text in both for part in ("--set", text)]
        assert settings_of("digits", "--lr", 0.7, *flags)["optim.lr"] == 0.2
    for name in ("method", "method.name"):
        assert settings_of("digits", "--method", "dpsh", "--set", f"{name}=itq")["method.name"] == "itq"
    assert settings_of("digits", "--out", "a", "--set", "out=b").out == "b"
    assert settings_of("digits", "--set", "out=b").out == "b"
    assert settings_of("--set", "data.source=mnist")["data.source"] == "mnist"
    assert settings_of("digits", "--set", "data.source=mnist")["data.source"] == "mnist"


def test_flags_win_over_the_file_and_set_over_both(settings_of: Any, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        'out = "from-file"\n[data]\nsource = "mnist"\n[method]\nname = "dpsh"\neta = 3.0\nbits = 16\n'
        "[optim]\nlr = 0.3\nepochs = 5\n"
    )
    settings = settings_of("--config", file)
    assert (settings["method.name"], settings["method.eta"], settings["optim.lr"]) == ("dpsh", 3.0, 0.3)
    assert settings["data.source"] == "mnist" and settings.out == "from-file"
    settings = settings_of("digits", "--config", file, "--lr", 0.4, "--epochs", 6, "--set", "optim.epochs=7")
    assert (settings["optim.lr"], settings["optim.epochs"]) == (0.4, 7)
    assert settings["data.source"] == "digits" and settings["method.eta"] == 3.0
    other = settings_of("--config", file, "--method", "hashnet")
    assert other["method.bits"] == 16, "the code length stays"
    assert not hasattr(other.method, "eta"), "another method has other settings"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--set", "optm.lr=1"), "unknown table 'optm' in 'optm.lr'; did you mean 'optim'?"),
        (("--set", "optim.lrr=1"), "unknown setting 'optim.lrr'; did you mean 'lr'?"),
        (("--set", "epoch=1"), "unknown setting 'epoch'; did you mean 'epochs'?"),
        (("--set", "nothing.like.it=1"), "unknown table 'nothing.like'"),
        (("--set", "optim.lr"), "--set must be TABLE.NAME=VALUE, such as optim.lr=0.05, got 'optim.lr'"),
        (("--set", "=3"), "--set must be TABLE.NAME=VALUE"),
        (("--set", "optim.lr=fast"), "lr must be a number"),
        (("--set", "optim.epochs=2.5"), "epochs must be a whole number"),
        (("--set", "optim.epochs=0"), "epochs must be at least 1"),
        (("--set", "data.flip=1"), "flip must be true or false"),
        (("--set", "data.root=2024"), "root must be text"),
        (("--set", "method=itk"), "got 'itk'; did you mean 'itq'?"),
        (("--method", "dphs"), "got 'dphs'; did you mean 'dpsh'?"),
        (
            ("--beta-every", "3"),
            "method.beta_every is a setting of method hashnet, and not of the one chosen",
        ),
        (("--set", "method.eta=3"), "method.eta is a setting of method dpsh, dsdh, dhn"),
        (("--method", "itq", "--topk", "3"), "method.topk is a setting of method dshc"),
        (("--method", "itq", "--label-smoothing", "0.1"), "is a setting of method dshc, dshc-multilabel"),
        (("--optimizer", "adam"), "did you mean 'adamw'?"),
        (("--optimiser", "adamw"), "--optimizer"),
        (("--lr", "fast"), "--lr"),
    ],
)
def test_wrong_settings_are_named(
    flags: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in dshc_fails("train", "digits", *flags)
    assert not list(tmp_path.iterdir()), "something was written"


def test_unknown_settings_of_a_file_are_named(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    for text, words in {
        "[optim]\nepoch = 3\n": ("unknown setting 'epoch'", "did you mean 'epochs'?"),
        "[optimm]\nepochs = 3\n": ("unknown table 'optimm'", "did you mean 'optim'?"),
        "epochs = 3\n": ("unknown table 'epochs'",),
        "optim = 3\n": ("optim must be a table, got 3",),
        '[method]\nname = "itq"\neta = 3.0\n': ("unknown setting 'eta'",),
        'dataset = "digits"\nepochs = 3\n': ("earlier version", "[optim]"),
        "[method]\nbits = 30.5\n": ("bits must be a whole number", "got 30.5"),
        "[data]\nsource = digits\n": ("no TOML file",),
    }.items():
        file.write_text(text)
        line = dshc_fails("train", "digits", "--config", file, "--out", tmp_path / "run")
        assert "settings.toml: " in line and all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_settings_from_a_file_and_flags_over_it(tmp_path: Path) -> None:
    data = write_embeddings(tmp_path / "data.npz")
    file = tmp_path / "settings.toml"
    file.write_text(
        f'out = "{tmp_path / "run"}"\n[data]\nsource = "{data}"\n[optim]\nepochs = 3\n'
        "[encoder]\nwidth = 8\n[method]\nbits = 9\n"
    )
    dshc_ok("train", "--config", file, "--epochs", 1, "--no-report")
    settings = RunSettings.from_toml(tmp_path / "run" / "config.toml")
    assert settings["optim.epochs"] == 1
    assert (settings["encoder.width"], settings["method.bits"]) == (8, 9)
    assert not (tmp_path / "run" / "report.html").exists()


def test_the_config_of_a_run_is_a_settings_file(run: Path, settings_of: Any, tmp_path: Path) -> None:
    before = RunSettings.from_toml(run / "config.toml")
    settings = settings_of("--config", run / "config.toml", "--out", tmp_path / "again")
    assert settings == before.replaced(out=str(tmp_path / "again"))
    assert settings.fingerprint() == before.fingerprint()
    assert settings["optim.batch_size"] == 16 and settings["encoder.backbone"] == "mlp"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere.toml: no such file" in dshc_fails("train", "--config", tmp_path / "nowhere.toml")


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


def test_a_folder_is_taken_as_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_embeddings(tmp_path / "data.npz")
    flags = ("--epochs", 1, "--width", 8, "--bits", 9, "--no-report")
    dshc_ok("train", data, *flags, "--out", "runs/default")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["default"]
