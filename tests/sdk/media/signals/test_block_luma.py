"""Blocks of luma: the same from every pixel format, whatever its size and its lines' padding."""

from __future__ import annotations

import av
import numpy as np
import pytest

from sdk.media.signals.block_luma import COLUMNS, ROWS, block_luma

EIGHT_BIT = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuva420p", "nv12", "nv21", "gray")

PACKED = ("rgb24", "bgr24", "rgba", "bgra", "rgb0", "bgr0", "yuyv422", "uyvy422")
DEEP = ("yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "p010le", "gray16le")


def blocks(height: int, width: int, pixel_format: str) -> av.VideoFrame:
    """Blocks that are brighter from left to right and from top to bottom, in levels of video range."""
    rows = np.arange(height)[:, None] * ROWS // height
    columns = np.arange(width)[None] * COLUMNS // width
    luma = (40 + 4 * (rows * COLUMNS + columns)).astype(np.uint8)
    gray = av.VideoFrame.from_ndarray(luma, format="gray")
    if pixel_format == "gray":
        return gray
    rgb = av.VideoFrame.from_ndarray(np.repeat(luma[:, :, None], 3, axis=2), format="rgb24")
    return rgb if pixel_format == "rgb24" else rgb.reformat(format=pixel_format)


@pytest.mark.parametrize("pixel_format", [*EIGHT_BIT, *PACKED, *DEEP, "yuv410p"])
def test_every_format_tells_the_same_blocks(pixel_format: str) -> None:
    """Up to the range of its luma: a straight line from the levels that were written."""
    found = block_luma(blocks(480, 634, pixel_format))
    written = 40 + 4 * np.arange(ROWS * COLUMNS)
    slope, offset = np.polyfit(written, found, 1)
    assert 0.8 < slope < 1.2
    assert np.abs(found - (slope * written + offset)).max() < 2.5


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 200), (24, 32), (25, 33), (1080, 1920)])
def test_any_size(size: tuple[int, int]) -> None:
    image = av.VideoFrame.from_ndarray(np.full((*size, 3), 90, np.uint8), format="rgb24")
    found = block_luma(image)
    assert found.shape == (ROWS * COLUMNS,) and found.dtype == np.float32 and (found == 90).all()


def test_the_picture_is_not_changed() -> None:
    image = blocks(48, 64, "yuv420p")
    before = image.to_ndarray().copy()
    block_luma(image)
    assert np.array_equal(image.to_ndarray(), before)
