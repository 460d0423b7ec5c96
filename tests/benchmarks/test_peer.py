"""The peer on CUDA: what it asks of the compiler, what it refuses, and its jobs. The kernel itself needs a GPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gpu import against_peer, peer

import dshc_fast


@pytest.mark.parametrize(
    "k, rows", [(1, 1), (10, 1), (32, 1), (33, 2), (100, 4), (128, 4), (129, 8), (1000, 32), (2048, 64)]
)
def test_rows_of_the_queue(k: int, rows: int) -> None:
    assert peer.queue_rows(k) == rows


def test_what_cannot_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="between 1 and 2048"):
        peer.WarpSelect.build((9, 0), [2049])
    assert "8.0" in peer.WarpSelect.build((7, 5), [10])
    monkeypatch.setattr(peer, "find_nvcc", lambda: None)
    assert peer.WarpSelect.build((9, 0), [10]) == "nvcc was not found"
    monkeypatch.setattr(peer, "find_nvcc", lambda: shutil.which("false"))
    assert peer.WarpSelect.build((9, 0), [10]).startswith("nvcc failed")


def test_what_the_library_is_asked_for() -> None:
    command = peer.compile_command("nvcc", (9, 0), 4, Path("to.so"))
    assert "-arch=sm_90a" in command and "-DWARP_SELECT_ROWS=4" in command
    assert "-arch=sm_80" in peer.compile_command("nvcc", (8, 0), 4, Path("to.so"))


def test_codes_on_the_cpu_are_refused() -> None:
    codes = torch.zeros((4, 8), dtype=torch.uint8)
    with pytest.raises(ValueError, match="CUDA"):
        peer.WarpSelect({}).topk(codes, codes, 1)


def test_a_rehearsal_says_that_it_needs_a_gpu() -> None:
    refused: list[tuple[str, str]] = []
    bench = SimpleNamespace(rehearsal=True, refuse=lambda what, why: refused.append((what, why)))
    jobs = against_peer.jobs()
    for job in jobs:
        job.run(bench)
    assert len(refused) == len(jobs) == 7
    assert all(against_peer.PEER in what and why == "it needs a GPU" for what, why in refused)


def answer(k: int = 3) -> tuple[torch.Tensor, torch.Tensor, dshc_fast.HammingTopK]:
    generator = torch.Generator().manual_seed(1)
    queries, database = (torch.randint(256, (n, 8), dtype=torch.uint8, generator=generator) for n in (4, 50))
    return queries, database, dshc_fast.hamming_topk(queries, database, k)


def test_a_right_answer_is_taken() -> None:
    queries, database, right = answer()
    assert against_peer.differs((right.distances, right.indices), queries, database, 3) == ""


@pytest.mark.parametrize("mistake, message", [
    ("distance", "distances differ"), ("no item", "are no items"), ("twice", "twice"), ("other", "other distances"),
])  # fmt: skip
def test_planted_mistakes_are_found(mistake: str, message: str) -> None:
    queries, database, right = answer()
    distances, indices = right.distances.clone(), right.indices.clone()
    if mistake == "distance":
        distances[2, 1] += 1
    elif mistake == "no item":
        indices[0, 0] = -1
    elif mistake == "twice":
        indices[1, 1] = indices[1, 0]
    else:
        far = dshc_fast.hamming_distance(queries[3:], database)[0].argmax()
        indices[3, 0] = far
    assert message in against_peer.differs((distances, indices), queries, database, 3)
