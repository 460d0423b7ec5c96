"""Where the time of a call goes, kernel by kernel: python -m gpu.run_profile --out FOLDER [--rehearse].

torch's profiler over a few calls each, after two untimed ones; records of kind "kernel": microseconds a call, and how
often a call launches it. The profiler slows the host down and not the kernels.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

import dshc_fast
from gpu import codes, machine
from gpu.forms import CHOICE, form
from gpu.loss import Batch, ours
from gpu.records import Records

CALLS = 5
MILLION = 1_000_000
Call = Callable[[], object]


class Sizes:
    """What Batch asks of a bench."""

    def __init__(self, rehearsal: bool) -> None:
        self.rehearsal, self.device = rehearsal, "cpu" if rehearsal else "cuda"

    def small(self, size: int, at_most: int) -> int:
        return min(size, at_most) if self.rehearsal else size


def calls(of: Sizes) -> Iterator[tuple[str, str, Call]]:
    """Name, form of top-k, call."""

    def make(n_bits: int, n: int, seed: int) -> torch.Tensor:
        return codes.make("random", n_bits, of.small(n, 3000), of.device, seed)

    for n_db in (MILLION // 10, 10 * MILLION, 1000 * MILLION):
        database, one = make(64, n_db, 0), make(64, 1, 1)
        yield f"hamming_topk 1 x {n_db:,}", CHOICE, partial(dshc_fast.hamming_topk, one, database, 100)
    database, queries = make(64, 10 * MILLION, 0), make(64, 1024, 1)
    for name in ("popc", "mma"):
        yield "hamming_topk 1,024 x 10,000,000", name, partial(dshc_fast.hamming_topk, queries, database, 100)
    yield (
        "hamming_radius 8, 1,024 x 10,000,000",
        CHOICE,
        partial(dshc_fast.hamming_radius, queries, database, 8),
    )
    sets = make(64, 10_000, 1), make(64, 50_000, 0)
    labels = [codes.labels(len(x), of.device, seed) for seed, x in enumerate(sets)]
    for ties in ("expected", "index"):
        call = partial(dshc_fast.mean_average_precision, *sets, *labels, ties=ties)
        yield f"mean_average_precision {ties}, 10,000 x 50,000", CHOICE, call
    for dtype in ("bfloat16", "float32"):
        for n, outputs, classes in ((4096, 30_100, 100), (256, 310, 10)):
            batch = Batch(of, n, outputs, classes, dtype)
            yield f"class_softmax_loss and gradient {n} x {outputs}, {dtype}", CHOICE, ours(batch)
        logits = torch.randn((of.small(4096, 16), of.small(30_100, 300)), device=of.device).to(batch.dtype)
        codebook = make(64, 30_100, 2)[: logits.shape[1]]
        call = partial(dshc_fast.codes_from_logits, logits, codebook, 5)
        yield f"codes_from_logits 4096 x 30100, k 5, {dtype}", CHOICE, call
        features = torch.randn((len(logits), 512), device=of.device).to(batch.dtype)
        weight = torch.randn((logits.shape[1], 512), device=of.device).to(batch.dtype)
        call = partial(dshc_fast.codes_from_features, features, weight, None, codebook, 5)
        yield f"codes_from_features 4096 x 512 x 30100, k 5, {dtype}", CHOICE, call


def kernels(call: Call, on_device: bool) -> dict[str, tuple[float, float]]:
    """Microseconds a call and launches a call, by kernel."""
    activity = ProfilerActivity.CUDA if on_device else ProfilerActivity.CPU
    call(), call()
    if on_device:
        torch.cuda.synchronize()
    with profile(activities=[activity]) as found:
        for _ in range(CALLS):
            call()
        if on_device:
            torch.cuda.synchronize()
    times: dict[str, list[float]] = defaultdict(list)
    for event in found.events():
        if not on_device or event.device_type == torch.autograd.DeviceType.CUDA:
            times[event.name].append(event.device_time if on_device else event.cpu_time)
    return {name: (sum(each) / CALLS, len(each) / CALLS) for name, each in times.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny sizes")
    options = parser.parse_args(arguments)
    records = Records(options.out)
    machine.record(records, options.rehearse)
    for name, of_form, call in calls(Sizes(options.rehearse)):
        with form(of_form):
            found = kernels(call, not options.rehearse)
        print(f"  {name}, {of_form}: {sum(time for time, _ in found.values()):.1f} us", flush=True)
        for kernel, (time, launches) in sorted(found.items(), key=lambda item: -item[1][0]):
            records.add(
                "kernel", call=name, form=of_form, kernel=kernel, us=round(time, 2), launches=launches
            )
            print(f"    {time:9.2f} us, {launches:g} launches: {kernel[:110]}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
