"""The parts of the GPU benchmark one by one: clock, checks, forms, code sets, limits, what is said of the machine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gpu import (
    checks,
    clock,
    codes,
    forms,
    limits,
    machine,
    oracle,
)
from gpu.records import Records

import dshc_fast


class FakeCuda:
    """What the clock and the checks ask of torch.cuda; a capture runs its call, as a real one does not."""

    def __init__(self) -> None:
        self.replays = 0
        fake = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at = time.perf_counter()

            def synchronize(self) -> None:
                pass

            def elapsed_time(self, end: Event) -> float:
                return 1e3 * (end.at - self.at)

        class Graph:
            def replay(self) -> None:
                fake.replays += 1

        self.Event, self.CUDAGraph = Event, Graph
        self.Stream = lambda: SimpleNamespace(wait_stream=lambda other: None, synchronize=lambda: None)
        self.current_stream = self.Stream
        self.stream = self.graph = lambda _: contextlib.nullcontext()
        self.synchronize = self.reset_peak_memory_stats = lambda: None
        self.memory_allocated, self.max_memory_allocated = (lambda: 10), (lambda: 17)


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    for name, value in vars(fake).items():
        if name != "replays":
            monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(clock, "FLUSH_BYTES", 1024)
    return fake


def test_clock(fake_cuda: FakeCuda) -> None:
    calls, device_clock = [], clock.CudaClock("cpu")
    timing = device_clock.time(lambda: calls.append(1))
    assert timing.how == "graph" and timing.samples == fake_cuda.replays == 7
    assert len(calls) == 4  # to warm up, to learn how long it takes, before the capture, captured
    assert device_clock.time(lambda: calls.append(1), in_a_row=20).how == "graph of 20"
    assert device_clock.time(lambda: calls.append(1), graph=False).how == "eager"
    slow = device_clock.time(lambda: time.sleep(0.03), at_most=0.1)
    assert slow.how == "eager" and 1 <= slow.samples <= 3 and slow.seconds >= 0.03
    assert device_clock.latency(lambda: None, graph=True).how == "wall, graph"
    assert device_clock.latency(lambda: None, graph=False).how == "wall"
    assert device_clock.peak(lambda: None) == 7


def test_clock_where_no_graph_can_be_had(fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    assert (
        clock.CudaClock("cpu").time(lambda: None).how.startswith("eager (no graph: operation not permitted")
    )


@pytest.mark.usefixtures("fake_cuda")
def test_checks_on_a_stream_and_in_a_graph() -> None:
    """The stream's answer is a plain one. The fake graph computed its answer on the inputs of the capture, which differ
    from those of the replay: the check must see that."""
    check = checks.Check("topk", checks.topk(3), checks.data("random", 64, 2, 50), ways=("stream", "graph"))
    stream, graph = checks.run(check, "cpu", checks.WAYS)
    assert stream["result"] == "equal" and "differ" in graph["result"]


def test_what_checks_compare() -> None:
    one = torch.ones(3, dtype=torch.float64)
    near, far = one + 1e-13, one + 1e-9
    assert checks.differs(near, one, 0) == "" and "3 of 3" in checks.differs(far, one, 0)
    assert checks.differs(far, one, 1e-5) == "" and "differ" in checks.differs(one * torch.nan, one, 1e-5)
    assert "shape" not in checks.differs((one.int(), one.int()), (one.int(), one.int()), 0)
    assert "part 1" in checks.differs((one, one), (one, one.float()), 0)
    assert "(1,)" in checks.differs(torch.tensor([1, 2]), torch.tensor([1, 3]), 0)


def test_forms_are_offered_where_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(forms.VARIABLE, "mma")
    assert forms.available("cpu") == ()  # the CPU back end has no such forms
    assert os.environ[forms.VARIABLE] == "mma"

    def reads(*_: object) -> None:
        if os.environ.get(forms.VARIABLE, "mma") not in forms.FORMS:
            raise ValueError("DSHC_CUDA_TOPK")

    monkeypatch.setattr(dshc_fast, "hamming_topk", reads)
    assert forms.available("cpu") == forms.FORMS
    with forms.form(forms.CHOICE):
        assert forms.VARIABLE not in os.environ
    assert forms.for_k(forms.FORMS, 10_240) == forms.FORMS and forms.for_k(forms.FORMS, 10_241) == ("rows",)


def test_code_sets() -> None:
    for kind in codes.KINDS:
        made = codes.make(kind, 64, 3000, "cpu", 0)
        assert made.shape == (3000, 8) and made.dtype == torch.uint8
        assert torch.equal(made, codes.make(kind, 64, 3000, "cpu", 0))
    assert len(codes.make("repeated", 64, 9000, "cpu", 0).unique(dim=0)) == codes.N_DISTINCT
    first, second = (codes.make("clustered", 64, 2000, "cpu", seed) for seed in (0, 1))
    nearest = dshc_fast.hamming_topk(first, second, 1).distances.float().mean()
    assert 2 < nearest < 6.5  # two codes of one center differ in 6.1 bits, two random ones in 32


def test_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is asked of the driver, of a GPU as torch describes one, and of sources without git."""
    tool = tmp_path / "nvidia-smi"
    answer = "580.1, 1980 MHz, 3201 MHz, 700 W"
    tool.write_text(f'#!/bin/sh\ncase "$1" in *driver_version,clocks.max.sm*) echo "{answer}";; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    properties = SimpleNamespace(name="A GPU", multi_processor_count=132, total_memory=10**11)
    answers = {"current_device": 0, "get_device_properties": properties, "get_device_capability": (9, 0)}
    for name, given in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, given=given: given)
    about = machine.describe(False, None)
    assert (
        about["device"] == "A GPU"
        and about["compute_capability"] == "9.0"
        and about["driver_version"] == "580.1"
    )
    assert about["commit"] == "" and machine.describe(True, "abc")["commit"] == "abc"
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert "driver_version" not in machine.describe(False, None)
    tool.unlink()
    assert "driver_version" not in machine.describe(False, None)


# ---- limits ----

LINES = """{"what": "popc", "loop": "a", "unit": "operations", "pace": 100.0, "per_clock": 1, "checked": true}
{"what": "b1", "loop": "mma m16n8k128 x", "unit": "outputs", "pace": 50.0, "per_clock": 1, "checked": true}
{"what": "b1", "loop": "mma m16n8k256 x", "unit": "outputs", "pace": 40.0, "per_clock": 1, "checked": true}
{"what": "b1", "loop": "wgmma m64n128k256 x", "unit": "outputs", "pace": 900.0, "per_clock": 1, "checked": false}
"""


def test_limits_of_pairs() -> None:
    found = limits.Limits(json.loads(line) for line in LINES.splitlines())
    assert found.pairs("popc", 1000.0, 64) == 20.0 and found.pairs("popc", 1000.0, 32) == 10.0
    assert found.pairs("b1", 1000.0, 64) == 20.0  # the smaller instruction
    assert found.pairs("b1", 1000.0, 256) == 25.0  # the larger; the wrong one counts nowhere
    assert found.pairs("int8", 1000.0, 64) is None and found.seconds("read", 1.0) is None


@pytest.mark.parametrize(
    ("compiler", "rows", "why"),
    [("echo broken >&2; exit 1", 0, "nvcc failed: broken"),
     ("cat > $6 <<'END'\n#!/bin/sh\necho '" + LINES.splitlines()[0] + "'; echo died >&2; exit 1\nEND\nchmod +x $6", 1,
      "died"),
     ("cat > $6 <<'END'\n#!/bin/sh\ncat <<'THERE'\n" + LINES + "THERE\nEND\nchmod +x $6", 4, "")],
)  # fmt: skip
def test_limits_program(
    compiler: str, rows: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\n{compiler}\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDACXX", str(nvcc))
    found: list[dict] = []
    assert limits.measure((9, 0), found.append) == why and len(found) == rows


def test_limits_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "find_nvcc", lambda: None)
    assert limits.measure((9, 0), print) == "nvcc was not found"


@pytest.mark.deep
def test_limits_compile(tmp_path: Path) -> None:
    if (nvcc := limits.find_nvcc()) is None:
        pytest.skip("nvcc is not here")
    command = limits.compile_command(nvcc, (9, 0), str(tmp_path / "limits"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_oracle_of_large_databases() -> None:
    """Of databases that are not copied to the host: by (distance, index), as the CPU back end has it."""
    for kind in codes.KINDS:
        database, queries = codes.make(kind, 128, 5000, "cpu", 0), codes.make(kind, 128, 3, "cpu", 1)
        wanted = dshc_fast.hamming_topk(queries, database, 40)
        for row, query in enumerate(queries):
            distances, indices = oracle.topk_by_torch(query, database, 40)
            assert torch.equal(distances, wanted.distances[row]) and torch.equal(indices, wanted.indices[row])
    assert oracle.bits_set(torch.tensor([-1, 0, 1, 2**62])).tolist() == [64, 0, 1, 1]


def test_records_are_whole_lines(tmp_path: Path) -> None:
    records = Records(tmp_path / "new" / "folder")
    assert list(records.all()) == []
    for i in range(3):
        records.add("row", step="a", value=i)
    records.add("begin", step="a")
    records.add("row", step="a", value=3)
    assert [record["value"] for record in records.all("row")] == [0, 1, 2, 3]
    assert [record["value"] for record in records.of_step("a", "row")] == [3]
