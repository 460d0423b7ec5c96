"""Two processes against one: the same answers, no item twice, exact resume, a stop that all agree on."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from dshc.hasher.files import read_hasher
from dshc.training import Processes

PASSES = """
import atexit, hashlib, json, os, sys
import numpy as np, torch
from dshc.backbones import EncoderSettings
from dshc.data.batches import make_batches
from dshc.hasher import Hasher
from dshc.methods import get
from dshc.training import Processes
from dshc.training.passes import make_pass

# Said last, for what is registered first runs last; in one piece, for both processes write.
atexit.register(lambda: os.write(1, f"GROUP {torch.distributed.is_initialized()}\\n".encode()))
processes = Processes("cpu")
items = np.random.default_rng(0).normal(size=(2500, 6)).astype(np.float32)
batches = make_batches(items, train_indices=np.arange(2500))
torch.manual_seed(0)
hasher = Hasher.build(
    EncoderSettings(backbone="mlp", width=16), get("dshc").Settings(bits=9), kind="features", item_shape=(6,),
    label_kind="ids", class_names=("a", "b", "c"), mean=batches.mean, std=batches.std,
)
rows = np.arange(0, 2500)[::-1].copy()
everything = make_pass(hasher, batches, rows, None, torch.Generator(), processes)
outputs, features = everything.outputs(), everything.features()
own = [list(processes.own_batches(n, 1024)) for n in (0, 1, 1024, 2500)]
gathered = processes.gather(torch.full((2, 1), float(processes.rank)))
answers = {
    "outputs": hashlib.sha256(outputs.numpy().tobytes()).hexdigest(),
    "features": hashlib.sha256(features.numpy().tobytes()).hexdigest(),
    "own": processes.all(own),
    "gathered": gathered.flatten().tolist(),
    "any": [processes.any(processes.rank == 1), processes.any(False)],
    "agreed": processes.agreed(processes.rank),
}
if processes.first:
    os.write(1, f"ANSWERS {json.dumps(answers)}\\n".encode())
"""

TRAIN = """
import json, os, signal, sys
from pathlib import Path
import dshc

def tell_to_stop(name, values):
    if name == "epoch" and values["epoch"] == 1:
        os.kill(os.getpid(), signal.SIGTERM)  # the first process alone is told

for number, values in enumerate(json.loads(sys.argv[1])):
    folder = Path(sys.argv[2]) / str(number)
    dshc.train(**values, out=folder / "whole")
    try:
        dshc.train(**values, out=folder / "stopped", on_event=tell_to_stop)
    except KeyboardInterrupt:
        os.write(1, f"STOPPED {number}\\n".encode())  # in one piece: both processes write
    dshc.train(**values, out=folder / "stopped", resume=True)
"""


@pytest.fixture
def launched(tmp_path):
    """What some code prints in ``n`` processes."""

    def launch(n, code, *arguments):
        script = tmp_path / "script.py"
        script.write_text(code)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
        done = subprocess.run(
            [*command, str(script), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    return launch


@pytest.mark.deep
def test_passes_are_those_of_one_process(launched):
    output = [launched(n, PASSES) for n in (1, 2)]
    one, two = (json.loads(text.split("ANSWERS ")[1].splitlines()[0]) for text in output)
    assert output[1].count("GROUP False") == 2  # whose threads would abort the process as it ends
    assert one["outputs"] == two["outputs"] and one["features"] == two["features"]
    for all_of_it, first, second in zip(one["own"][0], *two["own"], strict=True):
        assert sorted(first + second) == all_of_it and not set(first) & set(second)
    assert two["gathered"] == [0, 0, 1, 1] and two["any"] == [True, False] and two["agreed"] == 0


CASES = [
    {"method": "dshc"},
    {"method": "dshc", "subclass": "learned", "assignment": "sinkhorn", "queue": 4},
    {"method": "dshc", "subclass": "learned", "assignment": "kmeans"},
    {"method": "dshc", "ema": 0.9, "accumulate": 2, "clip_norm": 1.0},
    {"method": "dpsh"},
    {"method": "hashnet"},
    {"method": "itq"},
]


@pytest.mark.deep
def test_stopped_together_and_resumed_to_the_same_bytes(launched, features, tmp_path):
    common = {"settings": str(features), "bits": 12, "epochs": 3, "batch_size": 32, "width": 16, "threads": 1}
    output = launched(2, TRAIN, json.dumps([{**common, "device": "cpu", **case} for case in CASES]), tmp_path)
    for number, case in enumerate(CASES):
        if case["method"] != "itq":  # which has nothing to stop
            assert output.count(f"STOPPED {number}") == 2, (case, output)
        folders = tmp_path / str(number) / "whole", tmp_path / str(number) / "stopped"
        for name in ("best", "last"):
            whole, resumed = (read_hasher(folder / f"{name}.safetensors")[0] for folder in folders)
            assert whole.keys() == resumed.keys()
            assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items()), (case, name)
        rows = [
            [
                {name: value for name, value in json.loads(line).items() if name != "seconds"}
                for line in (folder / "metrics.jsonl").read_text().splitlines()
            ]
            for folder in folders
        ]
        assert rows[0] == rows[1], case


def test_one_process_is_all_there_is():
    processes = Processes("cpu")
    rows = torch.arange(6.0).reshape(3, 2).requires_grad_()
    assert processes.first and processes.size == 1
    assert torch.equal(processes.gather(rows), rows) and not processes.gather(rows).requires_grad
    assert processes.all(5) == [5] and processes.agreed("x") == "x" and processes.any(True)
    assert list(processes.own_batches(2500, 1024)) == [0, 1024, 2048]
    assert np.array_equal(processes.gather_batches(rows.detach(), 3, 1024), rows.detach())
