"""Images that are damaged, hostile or enormous: refused, within bounds of memory, and the service goes on."""

from __future__ import annotations

import io
import threading
import time
from typing import Any

import numpy as np
import process_memory as memory
import pytest
from hostile_images import bomb
from PIL import Image
from served_indexes import client_of, png, refused
from small_hashers import items_of


def post(client: Any, content: bytes, name: str = "a.png") -> Any:
    return client.post("/search/images", files={"images": (name, content)}, data={"k": "1"})


def test_a_bomb_is_refused_before_it_is_decoded(images_client) -> None:
    before = memory.peak()
    content = bomb()
    assert len(content) < 1000
    message = refused(post(images_client, content), 422)
    assert message.startswith("image 0: not a readable image (") and "pixels" in message
    assert memory.peak() - before < 100 << 20, "2.5 billion pixels would take 2.5 GB and more"


def test_pixels_are_counted(images_index) -> None:
    with client_of(images_index, max_pixels=10_000) as client:
        assert post(client, png(np.zeros((100, 100, 3), np.uint8))).status_code == 200
        message = refused(post(client, png(np.zeros((101, 100, 3), np.uint8))), 422)
        assert "at most 10,000 pixels, got 100 x 101" in message


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"])
def test_files_cut_off_and_with_flipped_bytes(images_client, kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(items_of("images", 1)[0]).resize((40, 30)).save(buffer, format=kind)
    whole = buffer.getvalue()
    assert post(images_client, whole).status_code == 200
    rng = np.random.default_rng(len(whole))
    for _ in range(12):
        flipped = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(whole), 6)
        flipped[places] = rng.integers(0, 256, 6)
        for content in (whole[: rng.integers(0, len(whole))], flipped.tobytes()):
            answer = post(images_client, content)
            assert answer.status_code in (200, 422), answer.text
            if answer.status_code == 422:
                assert "image 0: not a readable image (" in refused(answer, 422)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",  # would run a program
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a",
        b"\xff\xd8\xff\xe0",
        b"II*\0" + b"\xff" * 60,
    ],
)
def test_what_is_no_image(images_client, content: bytes) -> None:
    assert "image 0: not a readable image" in refused(post(images_client, content), 422)


def test_the_name_of_an_upload_opens_nothing(images_client) -> None:
    for name in ("/etc/passwd", "../../etc/passwd", "a\0b.png", "x" * 3000 + ".png", "\x1b[31m.png"):
        answer = post(images_client, png(items_of("images", 1)[0]), name)
        assert answer.status_code == 200 and "passwd" not in answer.text
        assert "passwd" not in refused(post(images_client, b"not an image", name), 422)


def test_fields_that_are_not_known(images_client) -> None:
    """A misspelt condition must not become none."""
    content = png(np.zeros((9, 9, 3), np.uint8))
    answer = images_client.post(
        "/search/images", files={"images": ("a.png", content)}, data={"k": "1", "labels": "cat", "kk": "2"}
    )
    message = refused(answer, 422)
    assert "body.labels: no such field" in message


def test_one_bad_image_among_several(images_client) -> None:
    good = png(items_of("images", 1)[0])
    upload = [("images", (f"{i}", content)) for i, content in enumerate((good, good, b"bad"))]
    assert "image 2: " in refused(images_client.post("/search/images", files=upload), 422)


def test_memory_stays_where_it_is(images_client) -> None:
    """The loop of a minute is in tests/services."""
    contents = [bomb(), bomb(9000, 9000), b"bad", png(items_of("images", 1)[0])]
    for content in contents * 5:
        post(images_client, content)
    before = memory.resident()
    for content in contents * 20:
        post(images_client, content)
    assert memory.resident() - before < 20 << 20


def test_images_are_decoded_beside_searches(images_client, monkeypatch) -> None:
    """An image that takes long holds up nobody who asks for something else."""
    from dshc.service import service as module

    right, go = module.decoded, threading.Event()

    def decoded(*arguments: Any) -> np.ndarray:
        go.wait(10)
        return right(*arguments)

    monkeypatch.setattr(module, "decoded", decoded)
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(post(images_client, png(items_of("images", 1)[0]))))
    thread.start()
    time.sleep(0.1)
    assert images_client.post("/search", json={"ids": ["ant/0.png"]}).status_code == 200
    assert not done
    go.set()
    thread.join()
    assert done[0].status_code == 200
