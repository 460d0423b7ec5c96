"""``dshc train`` as its own process and signals: a checkpoint that resumes to the same bytes, and the exit code."""

import os
import signal
import subprocess
import sys
import time

import pytest
from training_runs import PIPES, SMALL, environment, final, train

from dshc.runs.run_folder import CHECKPOINT
from dshc.training import Interrupted
from dshc.training.checkpoint import read_checkpoint

COMMAND = [sys.executable, "-m", "dshc", "train"]


def flags(settings, folder):
    given = {"device": "cpu", **settings, "out": folder}
    source = given.pop("source")
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in given.items()]
    return [source, *(part for pair in pairs for part in pair)]


def start(arguments):
    """The command in a process where no signal is ignored, as under a shell in the foreground."""
    code = (
        "import os, signal, sys\n"
        "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "    signal.signal(number, signal.SIG_DFL)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, *COMMAND, *arguments], env=environment(), **PIPES)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.deep),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.deep),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.deep),
    ],
)
def test_a_signal_leaves_a_checkpoint_that_resumes_to_the_same_bytes(tmp_path, number, code):
    settings = {**SMALL, "epochs": 200, "checkpoint_every": 5}
    folder = tmp_path / "my run"
    process = start(flags(settings, folder))
    try:
        wait_for(process, folder / CHECKPOINT)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, err
    lines = err.splitlines()
    last = lines[-1]
    assert last.startswith("dshc: interrupted ") and "nothing is lost" in last
    assert last.endswith(f"dshc train --resume --out '{folder}'")
    # Off a terminal a line an epoch, and nothing else.
    assert out == "" and [line for line in lines if not line.startswith("epoch ")] == [last]
    assert all(line.startswith(f"epoch {i}/200: loss ") for i, line in enumerate(lines[:-1], 1))
    # On to the end of the epoch it was in, and as far without a stop.
    epoch = len(lines)
    places = [until(epoch, folder, settings, resume=True), until(epoch, tmp_path / "whole", settings)]
    assert places[0] is not None and places[1] is None
    resumed, whole = (read_checkpoint(f / CHECKPOINT) for f in (folder, tmp_path / "whole"))
    assert (resumed.position.epoch, resumed.position.step) == (epoch, 0)
    assert bits(resumed) == bits(whole)


@pytest.mark.parametrize(
    ("method", "when"), [("itq", "start"), ("itq", "epoch"), ("dpsh", "epoch"), ("dpsh", "checkpoint")]
)
def test_a_signal_in_the_last_epoch_stops_too(features, tmp_path, method, when):
    """And what is trained by then is there."""
    settings = {"source": str(features), "method": method, "bits": 6, "epochs": 1, "width": 8, "threads": 1}
    whole = train(tmp_path / "whole", settings)

    def tell(name, _):
        if name == when:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="after the training, whose weights are written") as stop:
        train(tmp_path / "run", settings, on_event=tell)
    assert stop.value.signal_name == "SIGTERM"
    assert final(tmp_path / "run") == final(whole.folder)
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(whole.folder)


class Enough(Exception):
    pass


def until(epoch, folder, settings, **options):
    """Train to the end of an epoch and no further; returns where it was resumed, if it was."""
    resumed = []

    def note(name, values):
        if name == "resume":
            resumed.append((values["epoch"], values["step"]))
        if name == "checkpoint" and values["epoch"] == epoch:
            raise Enough

    with pytest.raises(Enough):
        train(folder, settings, on_event=note, **options)
    return resumed[0] if resumed else None


def bits(checkpoint):
    return {
        part: {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
        for part, tensors in checkpoint.tensors.items()
    }


def wait_for(process, path):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path.name} was not written"
        time.sleep(0.02)
