"""The trainer against a plain loop, written from what is documented of random numbers, batches and groups."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from training_runs import SMALL, train

import dshc_fast
from dshc.backbones import mlp, small_net


def generator(*numbers):
    """Of some numbers: all randomness of a training comes from (seed, epoch) and (seed, epoch, step)."""
    words = np.random.SeedSequence([len(numbers), *numbers]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


def plain_loop(net, batch, loss, n_items, *, lr, epochs, batch_size, seed=0):
    weights = list(net.parameters())
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": 5e-4},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    n_steps = -(-n_items // batch_size)
    size = n_items // n_steps  # all batches are of one size
    for epoch in range(epochs):
        order = torch.randperm(n_items, generator=generator(seed, epoch))
        for step in range(n_steps):
            random = generator(seed, epoch, step)
            torch.manual_seed(random.initial_seed())  # for dropout
            total = epochs * n_steps
            done = (
                epoch * n_steps + step + (0.5 if total < 20 else 0)
            ) / total  # the few have none at a rate of 0
            share = done / 0.05 if done < 0.05 else (1 + math.cos(math.pi * (done - 0.05) / 0.95)) / 2
            for group in optimizer.param_groups:
                group["lr"] = lr * share
            picked = order[step * size : (step + 1) * size]
            optimizer.zero_grad()
            loss(net(batch(picked, random)), picked).backward()
            optimizer.step()


def moved_digits(run, images):
    """Batches of images, each moved by up to a pixel each way, mirrored at the border, and normalised."""
    mean, std = run.hasher.preprocessing.mean, run.hasher.preprocessing.std
    scale, shift = (1 / (255 * std.double())).float(), (-mean.double() / std.double()).float()
    padded = nn.functional.pad(images[:, None, :, :, 0].float(), (1, 1, 1, 1), mode="reflect")[:, 0]

    def batch(picked, random):
        moves = torch.randint(3, (2, len(picked), 1), generator=random)[..., 0]
        crops = [padded[i, y : y + 8, x : x + 8] for i, y, x in zip(picked, *moves.tolist(), strict=True)]
        pixels = torch.stack(crops)[..., None]
        values = torch.addcmul(shift, pixels, scale).permute(0, 3, 1, 2)
        return values.contiguous(memory_format=torch.channels_last)

    return batch


def standardised(run, values):
    mean, std = run.hasher.preprocessing.mean, run.hasher.preprocessing.std
    return lambda picked, random: (values[picked] - mean) / std


@pytest.mark.parametrize("kind", ["images", "features"])
def test_the_trainer_is_a_plain_loop(kind, features, tmp_path):
    settings = {**SMALL, "lr": 0.05, "optimizer": "sgd", "validation": 0.0, "seed": 5}
    if kind == "features":
        settings |= {"source": str(features), "bits": 9, "width": 16, "batch_size": 32}
    run = train(tmp_path / "run", settings)
    inputs = torch.from_numpy(run.dataset.inputs[run.split.train])
    labels = torch.from_numpy(run.dataset.labels[run.split.train])
    method = run.hasher.method
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            backbone = small_net(1, width=4, image_size=8) if kind == "images" else mlp(12, width=16)
            net = nn.Sequential(backbone, nn.Linear(backbone.n_features, method.n_outputs))
            net.to(memory_format=torch.channels_last).train()
            plain_loop(
                net,
                moved_digits(run, inputs) if kind == "images" else standardised(run, inputs),
                lambda outputs, picked: dshc_fast.class_softmax_loss(outputs, labels[picked], method.offsets),
                len(labels),
                lr=0.05,
                epochs=2,
                batch_size=settings["batch_size"],
                seed=5,
            )
    finally:
        torch.set_num_threads(threads)
    for ours, plain in ((run.hasher.backbone, backbone), (method.head, net[1])):
        state = plain.state_dict()
        assert state and {*state} == {*ours.state_dict()}
        for name, value in ours.state_dict().items():
            assert value.numpy().tobytes() == state[name].numpy().tobytes(), name
