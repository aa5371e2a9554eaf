from __future__ import annotations

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.spec import View
from sdk.media import Frame, ViewRenderer
from tests.sdk.media.videos import gradient

SHADE = (200, 60, 30)
MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}


def view(size: int, resize: str = "area") -> View:
    return View.model_validate({"name": "view", "size": size, "resize": resize})


def frame(image: av.VideoFrame | NDArray[np.uint8], rotation: int = 0) -> Frame:
    if not isinstance(image, av.VideoFrame):
        image = av.VideoFrame.from_ndarray(image, format="rgb24")
    return Frame(0.0, image, rotation, 0.0, 0.0, 0)


def flat_yuv(matrix: int, full: bool, pix_fmt: str, size: tuple[int, int] = (64, 48)) -> av.VideoFrame:
    """A picture of SHADE alone, coded by the textbook formula."""
    kr, kb = MATRICES[matrix]
    r, g, b = (value / 255 for value in SHADE)
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    bits = 10 if "10" in pix_fmt else 8
    codes = [y * 255, u * 255 + 128, v * 255 + 128] if full else [16 + y * 219, 128 + u * 224, 128 + v * 224]
    codes.append(255)
    image = av.VideoFrame(*size, pix_fmt)
    for plane, code in zip(image.planes, codes, strict=False):
        count = plane.buffer_size // (2 if bits == 10 else 1)
        values = np.full(count, round(code * 2 ** (bits - 8)), np.uint16 if bits == 10 else np.uint8)
        plane.update(values.tobytes())
    image.colorspace, image.color_range = matrix, 2 if full else 1
    return image


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuva420p"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_honors_matrix_range_and_format(matrix: int, full: bool, pix_fmt: str) -> None:
    pixels = ViewRenderer(view(24)).render(frame(flat_yuv(matrix, full, pix_fmt)))
    assert np.abs(pixels.astype(int) - SHADE).max() <= 3


def test_follows_sizes_and_colors_from_frame_to_frame() -> None:
    renderer = ViewRenderer(view(24))
    for matrix, full, size in (
        (5, False, (64, 48)),
        (1, True, (64, 48)),
        (9, False, (31, 77)),
        (5, True, (64, 48)),
    ):
        pixels = renderer.render(frame(flat_yuv(matrix, full, "yuv420p", size)))
        assert np.abs(pixels.astype(int) - SHADE).max() <= 3


@pytest.mark.parametrize("resize", ["area", "bilinear", "fast_bilinear"])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 1), (1, 4096), (4096, 2), (320, 240), (241, 319)])
def test_any_source_size_gives_the_view(size: tuple[int, int], resize: str) -> None:
    picture = np.full((size[1], size[0], 3), 90, np.uint8)
    pixels = ViewRenderer(view(84, resize)).render(frame(picture))
    assert pixels.shape == (1, 84, 84, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous and pixels.flags.writeable
    assert np.abs(pixels.astype(int) - 90).max() <= 2


def test_crops_the_centre_of_either_shape() -> None:
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 255
    renderer = ViewRenderer(view(40))
    assert renderer.render(frame(wide)).min() == 255
    assert renderer.render(frame(np.ascontiguousarray(wide.transpose(1, 0, 2)))).min() == 255


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_turns_clockwise(rotation: int) -> None:
    square = gradient(64, 64)
    turned = ViewRenderer(view(64)).render(frame(square, rotation))[0]
    assert np.array_equal(turned, np.rot90(square, -rotation // 90))


def test_averages_what_it_shrinks() -> None:
    checkers = np.indices((200, 200)).sum(0) % 2 * 255
    pixels = ViewRenderer(view(20)).render(frame(np.repeat(checkers[..., None], 3, 2).astype(np.uint8)))
    assert np.abs(pixels.astype(int) - 127).max() <= 4


def test_result_is_the_callers_own() -> None:
    source = frame(np.full((84, 84, 3), 7, np.uint8))
    renderer = ViewRenderer(view(84))
    first = renderer.render(source)
    first[:] = 0
    assert renderer.render(source).min() == 7
