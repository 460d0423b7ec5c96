"""Trainings on the features of a frozen backbone: what they leave, interruptions, how often features are computed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from frozen_backbones import NAME, SIDE, a_hasher
from training_runs import Stopped, at_step, environment, final, rows, stop, train

from dshc import Hasher
from dshc.hasher.frozen import frozen_features
from dshc.runs import evaluate_run, load_run
from dshc.runs.encoding import encode_part, outputs_of_items
from dshc.storage import cache_folder
from dshc.training import Interrupted

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def settings(folder, weights):
    return {
        "source": str(folder),
        "backbone": f"timm:{NAME}",
        "weights": str(weights),
        "image_size": SIDE,
        "bits": 9,
        "width": 24,
        "epochs": 12,
        "batch_size": 8,
        "threads": 1,
        "checkpoint_every": 2,
    }


def test_a_saved_hasher_encodes_images_as_features(settings, tmp_path, calls):
    run = train(tmp_path / "run", settings, epochs=24)
    assert run.settings.encoder.finetune == "none" and calls.since() == 36
    assert run.metrics[-1]["train_accuracy"] > 0.9
    file, predictions = encode_part(run, "database")
    assert calls.since() == 0  # from the features that the training left
    hasher = Hasher.load(tmp_path / "run", device="cpu")
    images = run.dataset.inputs[run.split.database]
    codes, again = hasher.encode_and_predict(images)
    # The last bits of a real value depend on which images share a batch; a code may differ where an output is near
    # the border.
    behind = hasher.behind_backbone()
    outputs = behind.outputs(frozen_features(hasher, run.dataset)[run.split.database])
    torch.testing.assert_close(outputs, hasher.outputs(images), rtol=1e-4, atol=1e-4)
    top = outputs.topk(2).values
    clear = (top[:, 0] - top[:, 1] > 1e-3).numpy()
    assert clear.mean() > 0.9 and np.array_equal(codes[clear], file.codes[clear])
    assert np.array_equal(again[clear], predictions[clear])
    # And from the files themselves.
    paths = [run.settings.data.source + "/" + run.dataset.ids[i] for i in run.split.database]
    assert np.array_equal(hasher.encode(paths), codes)


def test_the_backbone_is_that_of_the_file(settings, weights, tmp_path):
    run = train(tmp_path / "run", settings)
    net = run.hasher.backbone.net.state_dict()
    expected = {k: v for k, v in torch.load(weights).items() if not k.startswith("classifier.")}
    assert net.keys() == expected.keys() and all(torch.equal(net[name], expected[name]) for name in net)
    fresh = a_hasher(weights, width=24).backbone.neck.state_dict()
    neck = run.hasher.backbone.neck.state_dict()
    assert not any(torch.equal(neck[name], fresh[name]) for name in neck)


@pytest.mark.parametrize("step", [2, 5])
@pytest.mark.parametrize("more", [{}, {"ema": 0.9}, {"precision": "bf16"}], ids=str)
def test_stopped_and_resumed_it_comes_to_the_same(settings, tmp_path, monkeypatch, step, more):
    """From the features that are kept, and from features computed anew without the file of weights."""
    settings = {**settings, "epochs": 3, **more}
    whole = train(tmp_path / "whole", settings)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        at_step(patch, step + 1, stop)
        train(tmp_path / "run", settings)
    monkeypatch.setenv("DSHC_CACHE", str(tmp_path / "another"))
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(whole.folder) and rows(tmp_path / "run") == rows(whole.folder)
    kept = {path.name for path in (tmp_path / "another" / "features").iterdir()}
    assert kept == {path.name for path in (tmp_path / "cache" / "features").iterdir()}


def test_a_second_training_computes_no_features(settings, tmp_path, calls):
    train(tmp_path / "1", settings)
    assert calls.since() == 36
    train(tmp_path / "2", settings, lr=1e-2, width=8, bits=12, method="hashnet")
    assert calls.since() == 0
    train(tmp_path / "3", settings, max_memory_mib=0)  # files have a digest of their own
    assert calls.since() == 36
    assert final(tmp_path / "3") == final(tmp_path / "1")


def test_a_folder_that_cannot_be_written_is_warned_of_and_changes_nothing(settings, tmp_path, cache):
    train(tmp_path / "1", settings)
    with pytest.MonkeyPatch.context() as patch:
        (tmp_path / "file").write_text("")
        patch.setenv("DSHC_CACHE", str(tmp_path / "file"))
        with pytest.warns(UserWarning, match="features are not kept for the next time"):
            train(tmp_path / "2", settings)
    assert final(tmp_path / "2") == final(tmp_path / "1")


def test_without_a_cache_they_are_computed_once_for_training_and_measuring(settings, tmp_path, cache, calls):
    cache.write_text("")  # a file in the place of the folder
    with pytest.warns(UserWarning, match="features are not kept for the next time") as caught:
        run = train(tmp_path / "run", settings)
        evaluate_run(run)
        outputs = outputs_of_items(run, run.split.query)
    assert calls.since() == 36
    assert sum("are not kept" in str(warning.message) for warning in caught) == 1
    with pytest.warns(UserWarning, match="not kept"):
        again = load_run(tmp_path / "run", device="cpu")
        evaluate_run(again)
    assert calls.since() == 36
    assert torch.equal(outputs_of_items(again, again.split.query), outputs) and calls.since() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_meanwhile_keeps_what_is_done_and_says_how_to_go_on(
    settings, tmp_path, monkeypatch, calls, number
):
    import dshc.hasher.frozen as module

    monkeypatch.setattr(module, "encoding_batch", lambda shape: 8)
    whole = train(tmp_path / "whole", settings, epochs=2)
    monkeypatch.setenv("DSHC_CACHE", str(tmp_path / "another"))
    before = signal.getsignal(number)
    signal.signal(number, signal.default_int_handler)  # what is ignored stays so
    real, seen = Hasher.frozen_features, []

    def signalled(hasher, inputs):
        seen.append(len(inputs))
        if len(seen) == 3:
            signal.raise_signal(number)
        return real(hasher, inputs)

    try:
        with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
            patch.setattr(Hasher, "frozen_features", signalled)
            train(tmp_path / "run", settings, epochs=2)
    finally:
        signal.signal(number, before)
    text = str(caught.value)
    assert caught.value.signal_name == number.name and "with the features of 24 of 36 images" in text
    assert f"dshc train --resume --out {tmp_path / 'run'}" in text
    calls.since()
    train(tmp_path / "run", settings, epochs=2, resume=True)
    assert calls.since() == 36 - 24
    assert rows(tmp_path / "run") == rows(whole.folder)


@pytest.mark.parametrize("method", ["hashnet", "dpsh", "itq"])
def test_other_methods_are_trained_on_them(settings, tmp_path, method):
    run = train(tmp_path / "run", settings, method=method, bits=8, epochs=None if method == "itq" else 2)
    assert run.settings.encoder.finetune == "none"
    file, _ = encode_part(run, "database")
    assert len(np.unique(file.codes, axis=0)) > 3


def test_itq_rotates_the_features_themselves(settings, tmp_path):
    """A neck that nothing trains would only blur them (as ITQ's recipe says of any network)."""
    del settings["width"], settings["epochs"]
    run = train(tmp_path / "run", settings, method="itq", bits=8)
    assert run.hasher.backbone.n_features == 256


def test_from_random_weights_nothing_can_be_frozen(settings, tmp_path):
    del settings["weights"]
    with pytest.raises(
        ValueError, match="finetune must be 'all' where the backbone starts from random weights"
    ):
        train(tmp_path / "run", settings, finetune="none", pretrained=False)
    assert not (tmp_path / "run").exists()


TWO = """
import sys
from pathlib import Path
import json, dshc
settings = json.loads(sys.argv[1])
dshc.train(settings.pop("source"), **settings)
"""


@pytest.mark.deep
def test_two_processes_train_on_the_same_features(settings, tmp_path):
    import json

    script = tmp_path / "script.py"
    script.write_text(TWO)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    for out in ("1", "2"):  # without features, and with those that the first left
        arguments = json.dumps({**settings, "device": "cpu", "out": str(tmp_path / out)})
        done = subprocess.run(
            [*command, arguments], capture_output=True, text=True, check=False, env=environment() | os.environ
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "are not kept" not in done.stderr
    assert final(tmp_path / "1") == final(tmp_path / "2")
    one = train(tmp_path / "one", settings)
    assert len(list((cache_folder() / "features").iterdir())) == 1
    two = Hasher.load(tmp_path / "1", device="cpu")
    state = one.hasher.backbone.net.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in two.backbone.net.state_dict().items())
