"""Views of images, and how often their codes are the images' own."""

import numpy as np
import pytest
from training_runs import train

from dshc.paper.stability import VIEWS, measured_stability, stability_table

KS = (1, 3, 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = {
        "source": "digits",
        "method": "dshc",
        "bits": 10,
        "epochs": 2,
        "average_flips": True,
        "threads": 1,
    }
    return train(tmp_path_factory.mktemp("stability") / "run", settings)


def test_views_are_other_images_of_the_same_size():
    images = np.random.default_rng(1).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    for view in VIEWS.values():
        found = view(images)
        assert found.shape == images.shape and found.dtype == np.uint8 and not np.array_equal(found, images)
    mirrored, moved, noisy = (view(images) for view in VIEWS.values())
    assert np.array_equal(mirrored[:, :, 0], images[:, :, -1])
    assert np.array_equal(moved[:, 2:, 2:], images[:, :-2, :-2])
    assert np.array_equal(moved[:, 1, 2:], images[:, 1, :-2])  # mirrored at the first row
    assert np.abs(noisy.astype(int) - images).max() <= 50


def test_shares_are_of_the_codes(run):
    before = run.hasher.encoder_settings, run.hasher.method.settings
    found = measured_stability(run, KS, n=50)
    assert (run.hasher.encoder_settings, run.hasher.method.settings) == before
    assert found["images"] == 50 and set(found["views"]) == set(VIEWS)
    images = run.dataset.inputs[run.split.query]
    picked = images[np.linspace(0, len(images) - 1, 50).round().astype(int)]
    run.hasher.encoder_settings = before[0].replaced(average_flips=False)
    for name, view in VIEWS.items():
        own, others = run.hasher.encode(picked), run.hasher.encode(np.ascontiguousarray(view(picked)))
        bits = np.unpackbits(own ^ others, axis=1).sum(axis=1)
        assert found["views"][name]["1"] == {"same": (bits == 0).mean(), "bits": bits.mean()}
        for by_k in found["views"][name].values():
            assert 0 <= by_k["same"] <= 1 and (by_k["bits"] == 0) == (by_k["same"] == 1)
    run.hasher.encoder_settings = before[0]
    # Mirror images are other images where each is encoded by itself.
    assert found["views"]["mirrored"]["1"]["same"] < 1


def test_the_table(run):
    found = [{"construction": "cpbc", "bits": 10, "stability": measured_stability(run, KS, n=20)}]
    table = stability_table(found, KS)
    assert [row[2] for row in table.rows] == list(VIEWS)
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_embeddings_have_no_views(features, tmp_path):
    run = train(
        tmp_path / "run", {"source": str(features), "method": "dshc", "bits": 9, "epochs": 1, "threads": 1}
    )
    with pytest.raises(ValueError, match="run must be of DSHC and of images, got dshc and features"):
        measured_stability(run, KS)
