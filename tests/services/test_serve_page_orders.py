"""The page of ``dshc serve``: in which order items are shown, and variants of an image, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import missing, opened
from served_indexes import index_of_codes, index_with_vectors, png, write_pictures
from served_process import ServedProcess, served_process
from small_hashers import items_of

import dshc

pytestmark = [pytest.mark.services, pytest.mark.skipif(bool(missing()), reason=missing())]
ITEM = "cat/7.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return index_with_vectors(tmp_path_factory.mktemp("orders") / "index", "images")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[ServedProcess]:
    with served_process(folder, "--images", write_pictures(folder.parent / "pictures", 80)) as process:
        process.wait_for("ready")
        yield process


@pytest.fixture(scope="module")
def index(folder: Path) -> Iterator[Any]:
    with dshc.HashIndex.open(folder, read_only=True) as opened_index:
        yield opened_index


@pytest.fixture
def page(chromium: Any, service: ServedProcess) -> Iterator[Any]:
    with opened(chromium, f"{service.address}/#id={ITEM}") as page:
        page.wait_for_function("() => document.querySelectorAll('#results li').length === 24")
        yield page


def told(page: Any, text: str) -> None:
    """Wait until the results are those that this is said of."""
    page.wait_for_function("text => document.querySelector('#status').textContent.includes(text)", arg=text)


def ids(page: Any) -> list[str]:
    return page.locator("#results .id").all_inner_texts()


def upload(page: Any, picture: np.ndarray) -> None:
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": png(picture)})
    page.wait_for_function("() => document.querySelector('#query h3').textContent === 'a.png'")


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
def test_an_item_is_rescored(page, index, metric: str) -> None:
    own = index.get([ITEM])
    right = index.search(own.codes, 24, rescore=10, vectors=own.vectors, metric=metric)
    page.select_option("#by", metric)
    told(
        page,
        {"cosine": "at cosine", "inner_product": "at inner product", "l2": "at squared distance 0"}[metric],
    )
    assert ids(page) == right.ids[0].tolist()
    assert "Of the 10 times so many" in page.inner_text("#by-text")
    shown = [float(text) for text in page.locator("#results .distance").all_inner_texts()]
    np.testing.assert_allclose(shown, right.distances[0], rtol=5e-3, atol=1e-6)


def test_an_image_is_ranked_by_its_outputs(page, index) -> None:
    picture = items_of("images", 1, seed=4)
    page.select_option("#by", "asymmetric")
    upload(page, picture[0])
    told(page, "at asymmetric distance")
    real = index.hasher.method.transformed(index.hasher.outputs(picture)).detach().numpy()
    assert ids(page) == index.search_outputs(real, 24).ids[0].tolist()
    assert "asymmetric distance" in page.locator("#results button").first.get_attribute("aria-label")
    page.locator("#results button").nth(3).click()  # an item has no outputs
    told(page, "at distance 0")


def test_variants_of_an_image(page, index) -> None:
    picture = items_of("images", 1, seed=4)[0]
    upload(page, picture)
    told(page, "at distance")
    plain = page.inner_text("#status")
    for box in ("flip", "rotations"):
        page.locator(f"#variants input[value={box}]").check()
    square = [np.rot90(picture, turn) for turn in range(4)]
    seen = np.stack([*square, *(image[:, ::-1] for image in square)])
    right = index.search(index.hasher.encode(seen)[None], 24)
    page.wait_for_function(
        "ids => JSON.stringify([...document.querySelectorAll('#results .id')].map((one) => one.textContent))"
        " === JSON.stringify(ids)",
        arg=right.ids[0].tolist(),
    )
    for button, distance in zip(page.locator("#results button").all(), right.distances[0], strict=True):
        marks = button.locator(".marks").get_attribute("d") or ""
        assert marks.count("M") == distance, "compared with the nearest variant"
    page.locator("#variants input[value=flip]").uncheck()
    page.locator("#variants input[value=rotations]").uncheck()
    told(page, plain)


def test_a_radius_is_ordered_by_the_distance(page) -> None:
    page.select_option("#by", "cosine")
    told(page, "at cosine")
    page.locator("#radius").fill("2")
    told(page, "within distance 2, at distance 0")
    assert page.locator("#by").is_disabled() and "ordered by it" in page.inner_text("#by-text")
    page.locator("#by-k").check()
    told(page, "at cosine")


def test_by_keyboard_and_for_a_screen_reader(page) -> None:
    assert page.get_by_label("Ordered by", exact=True).count() == 1
    for name in ("mirrored", "turned", "cropped"):
        assert page.get_by_role("checkbox", name=name, exact=True).count() == 1
    assert page.get_by_role("group", name="Search for an image also").count() == 1
    page.locator("#radius").focus()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.value"))
        if reached[-1] == "by":
            page.keyboard.press("ArrowDown")
            page.keyboard.press("ArrowDown")
    assert [name for name in reached if name in ("by", "flip", "rotations", "crops")] == [
        "by", "flip", "rotations", "crops",
    ]  # fmt: skip
    told(page, "at cosine")


def test_what_is_not_offered_is_not_shown(chromium, tmp_path) -> None:
    with served_process(index_of_codes(tmp_path / "index", 60)) as process:
        with opened(chromium, f"{process.address}/#id=bee/1.png") as page:
            page.wait_for_function("() => document.querySelectorAll('#results li').length === 24")
            assert page.locator("#order-field").is_hidden()
