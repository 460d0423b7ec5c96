"""Jobs of the loss: forward and backward against torch's cross-entropy with the same soft targets, torch.compile of it,
and a copy of the same bytes; and the loss fused with the linear layer, where this version has it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

import dshc_fast
from gpu import checks, oracle
from gpu.bench import Bench, Job, Setting, job, setting
from gpu.clock import Run

OURS, COPY, TORCH, COMPILED = "class_softmax_loss", "copy of the same bytes", "torch", "torch.compile"
MEAN = "mean, in one pass"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LARGE, SMALL = (
    ((4096, 30_100, 100), (2048, 65_000, 1000)),
    ((256, 310, 10), (1024, 310, 10)),
)  # rows, outputs, classes
FEATURES = 512
LOSS = "Loss, forward and backward"
SHORT_CALLS = 20  # of the small sizes, which lie in the cache


def loss_setting(section: str, n: int, outputs: int, classes: int, dtype: str) -> Setting:
    return setting(section, rows=n, outputs=outputs, classes=classes, dtype=dtype)


class Batch:
    """Logits, labels and the soft targets that torch needs, on the bench's device."""

    def __init__(self, bench: Bench, n: int, outputs: int, classes: int, dtype: str) -> None:
        n, per_class = bench.small(n, 16), bench.small(outputs // classes, 5)
        generator = torch.Generator(bench.device).manual_seed(0)
        self.dtype, self.generator = DTYPES[dtype], generator
        self.offsets = torch.arange(classes + 1, device=bench.device) * per_class
        self.labels = torch.randint(classes, (n,), device=bench.device, generator=generator)
        self.logits = self.normal(n, classes * per_class).requires_grad_()
        self.ones = torch.ones(n, device=bench.device)
        self.per_class = per_class

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.offsets.device, generator=self.generator).to(self.dtype)

    def targets(self) -> Tensor:
        column = torch.arange(self.logits.shape[1], device=self.offsets.device) // self.per_class
        return (column == self.labels[:, None]).to(self.dtype) / self.per_class

    def n_bytes(self) -> int:
        return self.logits.numel() * self.logits.element_size()


def ours(batch: Batch, **options: object) -> Run:
    def run() -> tuple[Tensor, Tensor]:
        loss = dshc_fast.class_softmax_loss(
            batch.logits, batch.labels, batch.offsets, reduction="none", **options
        )
        return loss, torch.autograd.grad(loss, batch.logits, batch.ones)[0]

    return run


def means(batch: Batch, function: Callable[[], Tensor]) -> Run:
    def run() -> tuple[Tensor, Tensor]:
        loss = function()
        return loss, torch.autograd.grad(loss, batch.logits)[0]

    return run


def our_mean(batch: Batch) -> Run:
    return means(batch, lambda: dshc_fast.class_softmax_loss(batch.logits, batch.labels, batch.offsets))


def wrong_mean(batch: Batch) -> str:
    """What the gradient that comes with the mean differs in from the one of two passes; empty where in no bit."""
    loss, gradient = our_mean(batch)()
    rows, _ = ours(batch)()
    _, stats = torch.ops.dshc_fast.class_softmax_loss(batch.logits.detach(), batch.labels, batch.offsets)
    of_rows = torch.ones_like(rows) / torch.tensor(len(rows), device=rows.device)
    apart = torch.ops.dshc_fast.class_softmax_loss_backward(
        of_rows, batch.logits.detach(), stats, batch.labels, batch.offsets
    )
    if not torch.equal(gradient, apart):
        return "the gradient made with the loss differs from the one made after it"
    return "" if torch.allclose(loss, rows.mean(), rtol=1e-5) else "the mean differs from the rows'"


def torch_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, reduction="none")


def of_torch(batch: Batch, targets: Tensor, function: Callable = torch_loss) -> Run:
    ones = batch.ones.to(batch.dtype)

    def run() -> tuple[Tensor, Tensor]:
        loss = function(batch.logits, targets)
        return loss, torch.autograd.grad(loss, batch.logits, ones)[0]

    return run


def wrong_loss(batch: Batch, targets: Tensor) -> str:
    """What differs, losses and gradients: from the CPU back end on some rows, from torch on all of them, each as
    exactly as this dtype is; empty where nothing does."""
    answer = ours(batch)()
    rows = oracle.sample(len(batch.labels), 1)
    here = rows.to(batch.labels.device)
    logits = batch.logits.detach()[here].cpu()
    on_cpu = checks.loss_and_gradient(logits, batch.labels[here].cpu(), batch.offsets.cpu())
    if why := checks.differs(oracle.picked(answer, rows), on_cpu, checks.LOSS_TOLERANCE[batch.dtype]):
        return why
    tolerance = 3e-2 if batch.dtype == torch.bfloat16 else 1e-3
    for got, wanted in zip(answer, of_torch(batch, targets)(), strict=True):
        if not (got.float() - wanted.float()).abs().max() <= tolerance * wanted.float().abs().max():
            return "torch's loss or gradient differs"
    return ""


def copiers(bench: Bench, n_bytes: int) -> dict[str, Run]:
    """What moves as many bytes as the loss on logits of `n_bytes`: in one call, and in two, as forward and backward are
    two launches at the least."""
    source, destination = (
        torch.zeros(3 * n_bytes // 2, dtype=torch.uint8, device=bench.device) for _ in range(2)
    )

    def two_calls() -> None:
        destination[: n_bytes // 2].copy_(source[: n_bytes // 2])
        destination[:n_bytes].copy_(source[:n_bytes])

    return {COPY: lambda: destination.copy_(source), f"{COPY}, two calls": two_calls}


def loss(bench: Bench, n: int, outputs: int, classes: int, dtype: str) -> None:
    of = loss_setting(LOSS, n, outputs, classes, dtype)
    batch = Batch(bench, n, outputs, classes, dtype)
    n_bytes, large = batch.n_bytes(), (n, outputs, classes) in LARGE
    moved = 3 * n_bytes  # read, read again, gradient written
    how = {"amount": float(moved), "unit": "bytes", "in_a_row": 1 if large else SHORT_CALLS}
    targets = batch.targets()
    if why := wrong_loss(batch, targets):
        return bench.wrong(f"{of.name}: {OURS}", why)
    limit = {"the copy limit": bench.limits.seconds("copy", float(moved))}
    copy, copies = (
        bench.measure(of, name, run, floors=limit, **how) for name, run in copiers(bench, n_bytes).items()
    )
    how |= {"floors": {"copy": copy.seconds, "two copies": copies.seconds}, "peak": True}
    bench.measure(
        of, OURS, ours(batch), targets={"copy": 0.9 if large else 1 / 1.3, TORCH: 1.0, COMPILED: 1.0}, **how
    )
    bench.measure(of, TORCH, of_torch(batch, targets), **how)
    mean_of_rows(bench, of, batch, targets, copy.seconds, how["in_a_row"])
    # Last: it leaves the gradient where the logits were, which must be no leaf.
    batch.logits = batch.logits * 1
    bench.measure(of, f"{OURS}, inplace", ours(batch, inplace=True), **how)


def mean_of_rows(
    bench: Bench, of: Setting, batch: Batch, targets: Tensor, copy_seconds: float, in_a_row: int
) -> None:
    """What training asks for: one reading and one writing of the logits, two thirds of what rows cost whose gradient
    comes after."""
    if why := wrong_mean(batch):
        return bench.wrong(f"{of.name}: {OURS}, {MEAN}", why)
    how = {"amount": 2.0 * batch.n_bytes(), "unit": "bytes", "in_a_row": in_a_row, "peak": True}
    how["floors"] = {"copy": 2 / 3 * copy_seconds}
    name = f"{TORCH}, mean"
    bench.measure(of, f"{OURS}, {MEAN}", our_mean(batch), targets={"copy": 0.9, name: 1.0}, **how)
    bench.measure(of, name, means(batch, lambda: functional.cross_entropy(batch.logits, targets)), **how)


def compiled_loss(bench: Bench, n: int, outputs: int, classes: int, dtype: str) -> None:
    of = loss_setting(LOSS, n, outputs, classes, dtype)
    batch = Batch(bench, n, outputs, classes, dtype)
    torch.compiler.reset()
    function = torch.compile(torch_loss, dynamic=False, backend="eager" if bench.rehearsal else "inductor")
    bench.measure(of, COMPILED, of_torch(batch, batch.targets(), function), amount=3.0 * batch.n_bytes(), unit="bytes",
                  in_a_row=1 if (n, outputs, classes) in LARGE else SHORT_CALLS, peak=True)  # fmt: skip


def linear_loss(bench: Bench, n: int, outputs: int, classes: int, dtype: str) -> None:
    """From features: the fused loss against the linear layer and the loss one after the other."""
    of = loss_setting(f"Linear layer of {FEATURES} features and loss", n, outputs, classes, dtype)
    batch = Batch(bench, n, outputs, classes, dtype)
    features, weight, bias = parameters = [tensor.requires_grad_() for tensor in (
        batch.normal(batch.logits.shape[0], FEATURES), batch.normal(batch.logits.shape[1], FEATURES),
        batch.normal(batch.logits.shape[1]))]  # fmt: skip
    labels, offsets, flops = batch.labels, batch.offsets, 6.0 * batch.logits.numel() * FEATURES
    del batch

    def gradients(loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, parameters)

    def apart() -> tuple[Tensor, ...]:
        return gradients(
            dshc_fast.class_softmax_loss(functional.linear(features, weight, bias), labels, offsets)
        )

    def fused() -> tuple[Tensor, ...]:
        return gradients(dshc_fast.class_softmax_linear_loss(features, weight, bias, labels, offsets))

    tolerance = 3e-2 if DTYPES[dtype] == torch.bfloat16 else 1e-3
    for got, wanted in zip(fused(), apart(), strict=True):
        if not (got.float() - wanted.float()).abs().max() <= tolerance * wanted.float().abs().max():
            return bench.wrong(of.name, "the gradients of the fused loss differ from those of layer and loss")
    bench.measure(of, "torch linear, class_softmax_loss", apart, amount=flops, unit="operations", peak=True)
    bench.measure(of, "class_softmax_linear_loss", fused, amount=flops, unit="operations", peak=True)


def jobs() -> list[Job]:
    made = []
    for rank, dtype in enumerate(("bfloat16", "float32")):
        for shape in LARGE:
            made.append(job(10 + rank, "loss", loss, *shape, dtype))
            made.append(job(30 + rank, "loss", linear_loss, *shape, dtype))
            made.append(job(71, "more", compiled_loss, *shape, dtype))
        for shape in SMALL:
            made.append(job(20 + rank, "loss", loss, *shape, dtype))
            made.append(job(72, "more", compiled_loss, *shape, dtype))
    return made
