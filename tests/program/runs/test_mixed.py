"""Files of two runs in one folder, settings changed by hand, folders of the earlier version: refused by name."""

import shutil

import pytest
import safetensors.numpy
from training_runs import contents, final_bytes, train

import dshc
from dshc.errors import InputError
from dshc.runs.run_folder import CHECKPOINT, RunFolder

FILES = ("best.safetensors", "last.safetensors", "split.json", str(CHECKPOINT))


@pytest.fixture(scope="module")
def others(finished, tmp_path_factory):
    """Runs of the same settings with another seed, and with the same one again."""
    folder = tmp_path_factory.mktemp("others")
    return {"another seed": train(folder / "1", seed=1).folder, "again": train(folder / "0").folder}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("other", ["another seed", "again"])
def test_a_file_of_another_run_is_refused_by_name(copy, others, other, name):
    shutil.copyfile(others[other] / name, copy / name)
    before = contents(copy)
    weights = "last" if name.startswith("last") else None
    words = "belongs to another run|another split than|made for other"
    with pytest.raises(ValueError, match=words) as caught:
        if name == str(CHECKPOINT):
            train(copy, resume=True)
        else:
            _ = dshc.load_run(copy, weights=weights).split
    assert str(copy / name) in str(caught.value)
    assert contents(copy) == before


@pytest.mark.parametrize("other", ["another seed", "again"])
def test_a_split_of_another_run_stops_resuming(copy, others, other):
    shutil.copyfile(others[other] / "split.json", copy / "split.json")
    before = contents(copy)
    with pytest.raises(InputError, match=r"split\.json: (belongs to another run|another split than)"):
        train(copy, resume=True)
    assert contents(copy) == before


def test_a_config_of_another_run_makes_all_others_strangers(copy, others):
    shutil.copyfile(others["again"] / "config.toml", copy / "config.toml")
    with pytest.raises(InputError, match=r"best\.safetensors: belongs to another run .* than config\.toml"):
        dshc.load_run(copy)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bits = 30", "bits = 40"),
        ("topk = 1\n", "topk = 0\n"),
        ("seed = 0", "seed = 1"),
        ("# clip_norm: not set", "clip_norm = 1.0"),
        ('schedule = "cosine"', 'schedule = "onecycle"'),
    ],
)
def test_a_config_edited_by_hand_is_refused(copy, old, new):
    path = copy / "config.toml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    for action in (lambda: dshc.load_run(copy), lambda: train(copy, resume=True)):
        with pytest.raises(
            InputError, match=r"config\.toml: its settings were changed after the run was made"
        ):
            action()


def test_what_decides_no_result_may_be_edited(copy):
    path = copy / "config.toml"
    path.write_text(path.read_text().replace("threads = 1", "threads = 2"))
    assert dshc.load_run(copy).settings.runtime.threads == 2


def test_a_config_without_its_run_is_refused(copy):
    path = copy / "config.toml"
    text = path.read_text()
    path.write_text(text[text.index("[data]") :])
    with pytest.raises(InputError, match=r"config\.toml: damaged, or not of a run \(its id is missing\)"):
        dshc.load_run(copy)
    path.write_text(text.replace("format = 2", "format = 3"))
    with pytest.raises(InputError, match=r"config\.toml: a run of format 3, this version reads 2"):
        dshc.load_run(copy)


# The version before


OLD = """\
dataset = "digits"
# root: not set
method = "dshc"
bits = 30
epochs = 2
"""


@pytest.fixture
def old(tmp_path):
    """A folder as the earlier version left it: flat settings, model.safetensors, codebook.safetensors."""
    folder = tmp_path / "old"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "config.toml").write_text(OLD)
    (folder / "metrics.jsonl").write_text("{}\n")
    for name, kind in {
        "model.safetensors": "dshc.weights/1",
        "best.safetensors": "dshc.weights/1",
        "codebook.safetensors": "dshc.codebook/1",
        str(CHECKPOINT): "dshc.checkpoint/1",
    }.items():
        safetensors.numpy.save_file({}, folder / name, metadata={"kind": kind})
    return folder


def test_a_folder_of_the_earlier_version_is_refused_by_name(old):
    before = contents(old)
    for action in (lambda: dshc.load_run(old), lambda: train(old, resume=True)):
        with pytest.raises(InputError, match=r"config\.toml: written by an earlier version.*train again"):
            action()
    with pytest.raises(InputError, match=r"holds a run; .* replace it with --overwrite"):
        train(old)
    for name in ("model.safetensors", "best.safetensors"):
        with pytest.raises(InputError, match=rf"{name}: written by an earlier version .*; train again"):
            dshc.Hasher.load(old / name)
    assert contents(old) == before


def test_a_checkpoint_of_the_earlier_version_is_refused_by_name(copy, old):
    shutil.copyfile(old / CHECKPOINT, copy / CHECKPOINT)
    before = final_bytes(copy)
    with pytest.raises(ValueError, match=r"state\.safetensors: written by an earlier version.*train again"):
        train(copy, resume=True)
    assert final_bytes(copy) == before


def test_a_folder_of_the_earlier_version_is_replaced_whole(old):
    run = train(old, overwrite=True)
    assert run.epoch in (1, 2) and RunFolder.read(old).run_id
    assert not (old / "model.safetensors").exists() and not (old / "codebook.safetensors").exists()
