"""A hasher on disk: saved and loaded byte for byte, from folders, files, runs and hubs; what is wrong is named."""

import json
import shutil
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from small_hashers import VALUES, a_hasher, items_of
from training_runs import train

from dshc import Hasher, from_classifier
from dshc.errors import InputError
from dshc.hasher.files import read_hasher, write_hasher
from dshc.storage import save_arrays

ELSEWHERE = """
import sys
import numpy as np
from dshc import Hasher
hasher = Hasher.load(sys.argv[1])
items = np.load(sys.argv[2])
np.save(sys.argv[3], hasher.encode(items))
hasher.save(sys.argv[4])
"""


def in_a_new_process(source, items, tmp_path):
    """Codes by a process that loads the hasher, and the folder into which it saved it again."""
    again = tmp_path / "again"
    np.save(tmp_path / "items.npy", items)
    arguments = [source, tmp_path / "items.npy", tmp_path / "codes.npy", again]
    command = [sys.executable, "-c", ELSEWHERE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(tmp_path / "codes.npy"), again


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on features whose file is gone since, its codes, and some items."""
    folder = tmp_path_factory.mktemp("run")
    labels = np.arange(120) % 3
    values = np.random.default_rng(0).normal(size=(120, 12)) + 4 * np.eye(3, 12)[labels]
    np.savez(folder / "data.npz", features=values.astype(np.float32), labels=labels)
    settings = {"source": str(folder / "data.npz"), "width": 16, "epochs": 2, "batch_size": 32, "threads": 1}
    trained = train(folder / "run", settings)
    (folder / "data.npz").unlink()
    return trained


@pytest.fixture
def saved(tmp_path):
    return a_hasher().save(tmp_path / "saved")


@pytest.mark.parametrize("kind", ["images", "features"])
@pytest.mark.parametrize("name", VALUES)
def test_a_saved_hasher_is_the_same_hasher(name, kind, tmp_path):
    hasher, items = a_hasher(name, kind), items_of(kind, 40)
    hasher.about["note"] = "of a test"
    folder = hasher.save(tmp_path / "one")
    assert folder == tmp_path / "one"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = Hasher.load(folder, device="cpu")
    assert not loaded.training and loaded.description() == hasher.description()
    assert torch.equal(loaded.outputs(items), hasher.outputs(items))
    assert np.array_equal(loaded.encode(items), hasher.encode(items))
    loaded.save(tmp_path / "two")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


@pytest.mark.deep
def test_another_process_needs_nothing_of_the_run(run, tmp_path):
    items = items_of("features", 50)
    codes, again = in_a_new_process(run.folder, items, tmp_path)
    assert np.array_equal(codes, run.hasher.encode(items))
    run.hasher.save(tmp_path / "here")
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (again / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_folders_files_and_runs_are_loaded(run, saved, tmp_path):
    items = items_of("features")
    codes = a_hasher().encode(items)
    alone = shutil.copy(saved / "model.safetensors", tmp_path / "alone.safetensors")
    single = a_hasher().save_file(tmp_path / "single.safetensors")
    assert single.read_bytes() == (saved / "model.safetensors").read_bytes()
    for source in (saved, str(saved), saved / "model.safetensors", alone, single):
        assert np.array_equal(Hasher.load(source).encode(items), codes)
    for weights in ("best", "last"):
        expected = Hasher.load(run.folder / f"{weights}.safetensors")
        found = Hasher.load(run.folder, weights=weights)
        assert found.about["epoch"] == expected.about["epoch"]
        assert torch.equal(found.outputs(items), expected.outputs(items))
    assert Hasher.load(run.folder, weights="last").about["epoch"] == 2
    assert torch.equal(
        Hasher.load(run.folder).outputs(items), Hasher.load(run.folder, weights="best").outputs(items)
    )
    only = tmp_path / "only"
    only.mkdir()
    shutil.copy(run.folder / "last.safetensors", only)
    assert Hasher.load(only).about["epoch"] == 2


def test_what_is_not_there_is_named(run, saved, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: holds no hasher"):
        Hasher.load(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        Hasher.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"best\.safetensors: no such file"):
        Hasher.load(saved, weights="best")
    with pytest.raises(
        InputError, match="weights must be one of best, last, got 'lats'; did you mean 'last'"
    ):
        Hasher.load(run.folder, weights="lats")
    with pytest.raises(InputError, match=r"weights must go with the folder of a run, got 'last' and .*best"):
        Hasher.load(run.folder / "best.safetensors", weights="last")
    with pytest.raises(
        InputError, match="device must be one of auto, cpu, cuda, got 'cpv'; did you mean 'cpu'"
    ):
        Hasher.load(saved, device="cpv")
    (saved / "config.json").unlink()  # written last: a folder without it is no hasher yet
    with pytest.raises(FileNotFoundError, match="holds no hasher"):
        Hasher.load(saved)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(saved, length):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged"):
        Hasher.load(saved)


def test_a_changed_byte_is_refused(saved):
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    for position in np.linspace(8 + int.from_bytes(whole[:8], "little"), len(whole) - 1, 40).astype(int):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.safetensors: damaged"):
            Hasher.load(saved)


def test_files_of_other_kinds_and_versions_are_refused(tmp_path):
    arrays = {"weight": np.zeros(3, np.float32)}
    codes = save_arrays(tmp_path / "codes.safetensors", "dshc.codes", arrays, {})
    with pytest.raises(ValueError, match=r"codes\.safetensors: must hold 'dshc.hasher/1', got 'dshc.codes'"):
        Hasher.load(codes)
    old = save_arrays(tmp_path / "best.safetensors", "dshc.weights/1", arrays, {})
    with pytest.raises(InputError, match=r"best\.safetensors: written by an earlier version .* train again"):
        Hasher.load(old)
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(ValueError, match=r"text\.safetensors: damaged, or no safetensors file"):
        Hasher.load(tmp_path / "text.safetensors")
    with pytest.raises(InputError, match="bare.safetensors: damaged, its description cannot be read"):
        Hasher.load(save_arrays(tmp_path / "bare.safetensors", "dshc.hasher/1", arrays, {}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2, this version reads 1"),
        ({"method": {"name": "dshcc"}}, "method must be one of .* got 'dshcc'; did you mean 'dshc'"),
        ({"method": {"name": "dshc", "topk": -1}}, "topk must be at least 0, got -1"),
        ({"class_names": ["ant"]}, "not the weights of the hasher it describes"),
        ({"encoder": {"backbone": "mlp", "width": 8}}, "not the weights of the hasher it describes"),
        ({"encoder": None}, "damaged, its description lacks the encoder"),
        (
            {"item_shape": [8, 8, 3]},
            "backbone must be small_net, conv_net, identity or timm:NAME for items of shape",
        ),
        ({"seed": None, "label_kind": "none"}, "must be given one class per item, got no labels"),
    ],
)
def test_weights_that_are_not_what_they_say_are_refused(tmp_path, change, message):
    hasher = a_hasher()
    path = write_hasher(tmp_path / "one.safetensors", hasher.state_dict(), {**hasher.description(), **change})
    with pytest.raises(InputError, match=rf"one\.safetensors: .*{message}"):
        Hasher.load(path)


def test_a_description_of_before_newer_settings_is_read(tmp_path):
    hasher = a_hasher(kind="images")
    description = hasher.description()
    del (
        description["interpolation"],
        description["method"]["label_smoothing"],
        description["encoder"]["finetune"],
    )
    again = Hasher.load(write_hasher(tmp_path / "old.safetensors", hasher.state_dict(), description))
    assert again.interpolation == "bilinear" and again.description() == hasher.description()
    assert (again.encode(items_of("images")) == hasher.encode(items_of("images"))).all()


def test_missing_parts_of_the_state_are_refused(tmp_path):
    hasher = a_hasher()
    for name in ("method.codes", "method.head.weight", "backbone.0.weight", "preprocessing.mean"):
        state = {key: tensor for key, tensor in hasher.state_dict().items() if key != name}
        path = write_hasher(tmp_path / "one.safetensors", state, hasher.description())
        with pytest.raises(InputError, match=r"one\.safetensors: not the weights of the hasher it describes"):
            Hasher.load(path)


def test_an_edited_config_is_refused(saved):
    path = saved / "config.json"
    config = json.loads(path.read_text())
    assert config == read_hasher(saved / "model.safetensors")[1]
    path.write_text(json.dumps(config))  # laid out otherwise, the same content
    Hasher.load(saved)
    path.write_text(json.dumps({**config, "class_names": ["a", "b", "c", "d", "e"]}))
    with pytest.raises(InputError, match=r"config\.json: does not say what model\.safetensors holds"):
        Hasher.load(saved)
    path.write_text("{")
    with pytest.raises(InputError, match=r"config\.json: damaged, no JSON"):
        Hasher.load(saved)


def test_a_network_is_not_taken_and_ignored(saved):
    with pytest.raises(InputError, match="network must not be given, this hasher was saved with a backbone"):
        Hasher.load(saved, network=torch.nn.Identity())


def test_a_hub_is_asked_for_names_that_are_no_folder(saved, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    hub, asked = ModuleType("huggingface_hub"), []

    def snapshot_download(name, allow_patterns):
        asked.append((name, sorted(allow_patterns)))
        if name != "someone/hasher":
            raise OSError("no such repository")
        return str(saved)

    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    items = items_of("features")
    assert np.array_equal(Hasher.load("someone/hasher").encode(items), a_hasher().encode(items))
    assert asked == [("someone/hasher", ["config.json", "model.safetensors"])]
    with pytest.raises(FileNotFoundError, match=r"else/where: .* nor to be had from the hub \(no such repo"):
        Hasher.load("else/where")
    for name in ("name", "./some/where", "a/b/c", "./name"):
        with pytest.raises(FileNotFoundError, match="no such file or folder"):
            Hasher.load(name)
    assert len(asked) == 2


def test_without_the_hubs_package_its_name_is_said(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match="someone/hasher: no such .* pip install huggingface_hub"):
        Hasher.load("someone/hasher")


@pytest.mark.parametrize("name", VALUES)
def test_the_model_card_says_what_the_model_is(name, tmp_path):
    hasher = a_hasher(name)
    hasher.about["epoch"] = 7
    card = (hasher.save(tmp_path / "saved") / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: dshc\n")
    for text in (
        f"`{name}`",
        hasher.method.source,
        f"{hasher.n_bits} bits, ranked by {hasher.score}",
        "features 12",
        "ant, bee, cat, dog, elk" if hasher.class_names else "| classes | none |",
        "| epoch | 7 |",
        f"(n, {-(-hasher.n_bits // 8)})",
    ):
        assert text in card, text
    example = card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(tmp_path / "saved"))
    names = {"items": items_of("features")}
    exec(compile(example, "README.md", "exec"), names)
    assert np.array_equal(names["codes"], hasher.encode(names["items"]))


def test_names_of_classes_stay_in_their_cell(tmp_path):
    names = ("new\nline", "|pipe|", "\u202eturned")
    hasher = from_classifier(np.zeros((1, 3), np.float32), class_names=names)
    card = (hasher.save(tmp_path / "saved") / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in card.splitlines() if line.startswith("| classes |")]
    assert row == r"| classes | new\nline, \|pipe\|, \u202eturned |"


@pytest.mark.parametrize("name", ["README.md", "config.json"])
def test_files_of_somebody_else_are_left_alone(name, tmp_path):
    hasher = a_hasher("itq")
    (tmp_path / name).write_text("mine")
    with pytest.raises(
        ValueError, match=f"folder must hold no {name} but that of a saved hasher, got one in"
    ):
        hasher.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"
    hasher.save(tmp_path / "new")
    hasher.save(tmp_path / "new")  # again
