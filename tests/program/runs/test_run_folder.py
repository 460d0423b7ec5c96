"""The folder of a run: what it holds, whose a folder is, damage, missing files, files of other programs."""

import os
import re
import shutil

import pytest
from training_runs import SMALL, Stopped, contents, final, final_bytes, stop, train

import dshc
from dshc.data import Split
from dshc.errors import InputError
from dshc.hasher.files import read_hasher, write_hasher
from dshc.runs import RunSettings
from dshc.runs.run_folder import CHECKPOINT, RunFolder
from dshc.runs.settings import TABLES
from dshc.settings import identity
from dshc.storage import fingerprint, load_arrays, save_arrays


def small(features):
    return {"source": str(features), "epochs": 1, "bits": 9, "width": 8}


def test_the_run_folder(finished):
    names = {"config.toml", "split.json", "metrics.jsonl", "best.safetensors", "last.safetensors"}
    assert {path.name for path in finished.folder.iterdir()} == {*names, "checkpoint", ".lock"}
    assert [path.name for path in (finished.folder / "checkpoint").iterdir()] == [CHECKPOINT.name]
    settings = RunFolder.read(finished.folder).settings
    assert settings == finished.settings and settings.out == str(finished.folder)
    assert (settings.method.bits, settings.encoder.width, settings.optim.epochs) == (30, 4, 2)
    assert Split.load(finished.folder / "split.json") == finished.split


def test_a_moved_run_is_read_where_it_is(finished, tmp_path):
    moved = dshc.load_run(shutil.copytree(finished.folder, tmp_path / "moved"))
    assert moved.folder == tmp_path / "moved" and moved.settings.out == str(tmp_path / "moved")
    assert moved.split == finished.split and moved.digest == finished.digest


def test_the_settings_of_a_run_can_train_another(finished, tmp_path):
    """config.toml is a TOML file of settings as any other, its table of the run left out."""
    text = (finished.folder / "config.toml").read_text()
    path = tmp_path / "settings.toml"
    path.write_text(text[text.index("[data]") :])
    assert RunSettings.from_toml(path).with_values(out=finished.folder) == finished.settings


# Whose a folder is


def test_a_folder_that_holds_a_run_is_not_overwritten(finished):
    before = contents(finished.folder)
    with pytest.raises(ValueError, match=r"out: .* holds a run; continue it with --resume, replace it"):
        train(finished.folder)
    assert contents(finished.folder) == before


def test_resuming_what_is_not_there_or_otherwise_made_is_refused(finished, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no run \(config.toml is missing\)"):
        train(tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"lr must be 0.*, got 0.2"):
        train(finished.folder, lr=0.2, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"out must be a folder, .*file is a file"):
        train(tmp_path / "file")


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 1}, "seed must be 0 as in the run in"),
        ({"bits": 40}, "bits must be 30 as in the run in"),
        ({"ema": 0.5}, "ema must be 0.0 as in the run in"),
        ({"method": "hashnet", "bits": 30}, "must be .* as in the run in"),
        ({"source": "x.npz"}, "source must be 'digits' as in the run in"),
    ],
)
def test_a_run_is_continued_with_its_own_settings_alone(copy, features, other, named):
    before = contents(copy)
    if "source" in other:
        other = {"source": str(features)}
    with pytest.raises(ValueError, match=named):
        train(copy, SMALL, **other, resume=True)
    assert contents(copy) == before


def test_what_decides_no_result_may_change(copy):
    before = final_bytes(copy)
    train(copy, checkpoint_every=5, threads=1, resume=True)
    assert final_bytes(copy) == before


@pytest.mark.parametrize("name", ["last.safetensors", "report/mine.txt", "codes/query.safetensors"])
def test_files_of_somebody_else_are_left_alone(tmp_path, features, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=f"is no run, but holds {name.split('/')[0]}"):
            train(tmp_path, small(features), overwrite=overwrite)
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / "config.toml").exists()


def test_files_that_no_run_writes_stay(tmp_path, features):
    (tmp_path / "notes.txt").write_text("mine")
    train(tmp_path, small(features))
    train(tmp_path, small(features), overwrite=True, seed=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["[tool]\nname = 1\n", "[data]\nsource = 'digits'\n", "no toml"])
def test_settings_of_something_else_are_not_replaced(tmp_path, text):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.toml"):
        train(tmp_path, overwrite=True)
    assert contents(tmp_path) == {"config.toml": text.encode()}


@pytest.mark.parametrize("settings", [{"source": "no-such-set"}, {"batch_size": 1}, {"topk": 9999}])
def test_a_run_is_replaced_only_by_one_that_can_be(copy, settings):
    before = contents(copy)
    with pytest.raises(ValueError):
        train(copy, SMALL, **settings, overwrite=True)
    assert contents(copy) == before


def test_a_replaced_run_leaves_nothing_behind(copy, features):
    (copy / "codes").mkdir()
    for name in ("codes/query.safetensors", "evaluation.json", "report.html"):
        (copy / name).write_text("of the run before")
    before = RunFolder.read(copy).run_id
    train(copy, small(features), validation=0.0, overwrite=True)
    assert {path.name for path in copy.iterdir()} == {
        *("config.toml", "split.json", "metrics.jsonl", "last.safetensors", "checkpoint", ".lock")
    }
    assert RunFolder.read(copy).run_id != before


def test_a_replaced_run_leaves_what_was_saved_beside_it(copy, features):
    """Files of the names that runs of before had are removed with such a run, and not with another."""
    (copy / "codebook.safetensors").write_text("mine")
    saved = dshc.load_run(copy).hasher.save(copy / "saved")
    (saved / "model.safetensors").rename(copy / "model.safetensors")
    train(copy, small(features), overwrite=True)
    assert (copy / "codebook.safetensors").read_text() == "mine" and (copy / "model.safetensors").is_file()


def test_only_temporary_files_of_a_run_are_cleared_away(tmp_path, features):
    for name in (".mine.tmp", ".split.json.abc.tmp"):
        (tmp_path / name).write_text("")
    train(tmp_path, small(features))
    assert [path.name for path in tmp_path.glob(".*.tmp")] == [".mine.tmp"]


def test_what_a_killed_write_left_is_cleared_away(copy):
    left_over = copy / ".last.safetensors.abc.tmp"
    left_over.write_bytes(b"half")
    before = final_bytes(copy)
    train(copy, resume=True)
    assert not left_over.exists() and final_bytes(copy) == before


# Settings that came later, and settings that were changed


def of_before(folder, names):
    """Make the run in ``folder`` one of a version without the settings ``names``, which counted those at None too."""
    path, run = folder / "config.toml", RunFolder.read(folder)
    known = {table: identity(getattr(run.settings, table)) for table in TABLES}
    known = {table: {k: v for k, v in own.items() if k not in names} for table, own in known.items()}
    old = fingerprint(known)
    lines = path.read_text().replace(run.fingerprint, old).splitlines()
    path.write_text(
        "\n".join(line for line in lines if not re.match(rf"(# )?({'|'.join(names)})( =|:)", line))
    )
    for name in ("best", "last"):
        state, description = read_hasher(folder / f"{name}.safetensors")
        description["about"]["settings"] = old
        write_hasher(folder / f"{name}.safetensors", state, description)
    arrays, metadata = load_arrays(folder / CHECKPOINT, "dshc.checkpoint/2")
    save_arrays(folder / CHECKPOINT, "dshc.checkpoint/2", arrays, {**metadata, "settings": old})


def test_a_run_of_before_newer_settings_is_read_and_continued(copy):
    before = dshc.load_run(copy)
    names = ("augment", "interpolation", "workers", "ema", "search_steps", "label_smoothing", "finetune")
    of_before(copy, names)
    text = (copy / "config.toml").read_text()
    assert "augment =" not in text and "interpolation:" not in text and "# root: not set" in text
    run = dshc.load_run(copy)
    assert run.settings == before.settings and run.epoch == before.epoch
    weights = final(copy)
    train(copy, resume=True)
    assert final(copy) == weights and (copy / "config.toml").read_text() == text
    (copy / "config.toml").write_text(text.replace("width = 4", "width = 5"))
    with pytest.raises(InputError, match=r"config\.toml: its settings were changed after the run was made"):
        RunFolder.read(copy)


def test_what_config_toml_states_is_what_counts(copy):
    """Its comments may go, and places may change; nothing else may."""
    path, run = copy / "config.toml", RunFolder.read(copy)
    text = path.read_text()
    path.write_text("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    assert RunFolder.read(copy) == run
    path.write_text(text.replace("checkpoint_every = 3", "checkpoint_every = 7"))
    assert RunFolder.read(copy).fingerprint == run.fingerprint
    for change in (
        ("ema = 0.0\n", ""),
        ("ema = 0.0", "ema = 0.5"),
        ("# clip_norm: not set", "clip_norm = 1.0"),
    ):
        assert change[0] in text
        path.write_text(text.replace(*change))
        with pytest.raises(InputError, match=r"config\.toml: its settings were changed"):
            RunFolder.read(copy)


# Damaged and missing files


def damages(path):
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 4
    return whole[: 2 * len(whole) // 5], bytes(flipped), b""


@pytest.mark.parametrize("name", [str(CHECKPOINT), "split.json", "config.toml"])
def test_a_damaged_file_stops_resuming_by_name_and_changes_nothing(copy, name):
    for damaged in damages(copy / name)[: 1 if name == "config.toml" else 3]:
        (copy / name).write_bytes(damaged)
        before = contents(copy)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            train(copy, resume=True)
        assert contents(copy) == before  # metrics.jsonl too


@pytest.mark.parametrize("name", ["best.safetensors", "split.json", "metrics.jsonl"])
def test_a_damaged_file_is_refused_by_name(copy, name):
    for damaged in damages(copy / name)[: 1 if name == "metrics.jsonl" else 3]:
        (copy / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            run = dshc.load_run(copy)
            assert run.split and run.metrics


def test_missing_files_are_named(copy, tmp_path):
    (copy / "best.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"best\.safetensors: no such file, though the run is finished"
    ):
        dshc.load_run(copy)
    assert dshc.load_run(copy, weights="last").weights == "last"
    (copy / "last.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"best\.safetensors.*not finished"):
        dshc.load_run(copy)
    with pytest.raises(FileNotFoundError, match=r"holds no run \(config.toml is missing\)"):
        dshc.load_run(tmp_path / "nothing")


def test_a_checkpoint_without_its_split_is_not_resumed(copy):
    (copy / "split.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"split\.json"):
        train(copy, resume=True)


@pytest.mark.parametrize("left", [{"best"}, {"last"}, {"best", "last"}])
def test_a_finished_run_without_its_checkpoint_is_not_trained_again_in_silence(copy, left):
    (copy / CHECKPOINT).unlink()
    for name in {"best", "last"} - left:
        (copy / f"{name}.safetensors").unlink()
    before = contents(copy)
    with pytest.raises(
        FileNotFoundError, match=r"state\.safetensors: no such file, though the run has .*\.safet"
    ):
        train(copy, resume=True)
    assert contents(copy) == before


@pytest.mark.parametrize("line", ["[1]", "null", "3"])
def test_rows_of_metrics_are_objects(copy, line):
    (copy / "metrics.jsonl").write_text(f"{{}}\n{line}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl: damaged \(line 2"):
        _ = dshc.load_run(copy).metrics


def test_a_run_killed_before_its_first_file_but_one_is_a_run(finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Split, "save", lambda self, path: stop())
        train(folder)
    assert sorted(contents(folder)) == ["config.toml"]
    train(folder, resume=True)
    assert final(folder) == final(finished.folder)


def test_a_full_disk_leaves_the_checkpoint_before(finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    real, writes = os.replace, []

    def full(source, target):
        writes.append(str(target))
        if sum(CHECKPOINT.name in write for write in writes) == 3:
            raise OSError(28, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("dshc.storage.whole_files.os.replace", full)
        train(folder)
    assert not list(folder.rglob("*.tmp"))
    train(folder, resume=True)
    assert final(folder) == final(finished.folder)
