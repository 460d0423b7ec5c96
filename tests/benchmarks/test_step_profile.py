"""The profile of a training step: every part is met, and the step does what a training's does."""

import torch
from step_profile import PARTS, Clock, taken_apart
from training_runs import train

SETTINGS = {"source": "digits", "method": "dshc", "bits": 30, "epochs": 1, "crop": True, "threads": 1}


def test_parts_and_weights(tmp_path):
    plain, clock = train(tmp_path / "plain", SETTINGS), Clock()
    with taken_apart(clock):
        apart = train(tmp_path / "apart", SETTINGS)
    assert len(clock.steps) == -(-len(plain.split.train) // plain.settings.optim.batch_size)
    assert set(clock.medians()) == set(PARTS) and all(value > 0 for value in clock.medians().values())
    for name, tensor in plain.hasher.state_dict().items():
        assert torch.equal(tensor, apart.hasher.state_dict()[name]), name
    again = train(tmp_path / "again", SETTINGS)  # nothing is left of it
    assert len(clock.steps) and torch.equal(
        again.hasher.outputs(again.dataset.inputs[:5]), plain.hasher.outputs(plain.dataset.inputs[:5])
    )
