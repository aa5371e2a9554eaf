"""Draws synthetic clips: one moving object on a smooth background, absent about half of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 240
RATE_HZ = 8
STEPS = 32

Pixels = NDArray[np.float32]
Random = np.random.Generator

_NOISE_LEVELS = 1.5
_LONG_STRETCH = RATE_HZ
_TEXTURE_LEVELS, _MASKER_LEVELS = 40.0, 24.0
_MASKER_CUTOFF = 0.2

# Cycles per pixel across x and y. Averaging over the 2.9 px that become one at 84 px (2.1 px at 112 px)
# leaves a tenth of such a texture, below the masking noise; at 168 px half of it is left.
_WAVES = {
    "horizontal": (0.0, 0.41),
    "vertical": (0.41, 0.0),
    "rising": (0.38, 0.38),
    "falling": (0.38, -0.38),
}


@dataclass(frozen=True, slots=True)
class Timeline:
    """Per frame: whether the object is there, and whether the frame repeats the one before."""

    visible: NDArray[np.bool_]
    still: NDArray[np.bool_]


def draw_timeline(rng: Random, *, empty: bool) -> Timeline:
    """A random timeline: the object absent in 40 to 60 % of the frames, once there for a second or more.

    ``empty``: it never comes. Most stretches end in still frames.
    """
    lengths = [STEPS] if empty else _stretches(rng)
    states = [place % 2 == 1 for place in range(len(lengths))]
    still = [_still_end(rng, length) for length in lengths]
    return Timeline(np.repeat(states, lengths), np.concatenate(still))


def _stretches(rng: Random) -> list[int]:
    """Lengths of five stretches: absent, visible, absent, visible, absent."""
    visible = int(rng.integers(round(0.4 * STEPS), round(0.6 * STEPS) + 1))
    long = int(rng.integers(_LONG_STRETCH, visible))
    shown = rng.permutation([long, visible - long])
    first, second = np.sort(rng.choice(np.arange(1, STEPS - visible), 2, replace=False))
    gaps = np.diff([0, first, second, STEPS - visible])
    return [int(n) for n in (gaps[0], shown[0], gaps[1], shown[1], gaps[2])]


def _still_end(rng: Random, length: int) -> NDArray[np.bool_]:
    still = np.zeros(length, dtype=np.bool_)
    if length >= 4 and rng.random() < 0.7:
        still[-length // 3 :] = True
    return still


def draw_frames(rng: Random, label: str, timeline: Timeline) -> Iterator[NDArray[np.uint8]]:
    """The frames of one clip: uint8 (240, 320, 3) RGB. ``label`` is a shape, a texture, or neither."""
    background = _background(rng)
    draw = _painter(rng, label)
    radius = float(rng.uniform(60, 70) if label in _WAVES else rng.uniform(42, 64))
    position, velocity = _start(rng, radius)
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number in range(STEPS):
        if number and timeline.still[number]:
            yield frame
            continue
        noise = _noise_bank()[rng.integers(_BANK)]
        picture = background + np.roll(noise, rng.integers(0, HEIGHT, 2), (0, 1))
        if timeline.visible[number]:
            draw(picture, position, radius)
        frame = np.clip(picture, 0, 255).astype(np.uint8)
        position, velocity = _moved(position, velocity, radius)
        yield frame


def _background(rng: Random) -> Pixels:
    """A smooth gradient between four random, rather dark corner colors."""
    corners = rng.uniform(40, 110, (2, 2, 1)) + rng.uniform(-15, 15, (2, 2, 3))
    across = np.linspace(0, 1, WIDTH)[None, :, None]
    down = np.linspace(0, 1, HEIGHT)[:, None, None]
    top = corners[0, 0] * (1 - across) + corners[0, 1] * across
    bottom = corners[1, 0] * (1 - across) + corners[1, 1] * across
    return np.asarray(top * (1 - down) + bottom * down, np.float32)


Point = tuple[float, float]
Painter = Callable[[Pixels, Point, float], None]


def _start(rng: Random, radius: float) -> tuple[Point, Point]:
    """Position and velocity (px per frame); the object stays within the central square."""
    position = (rng.uniform(*_range_x(radius)), rng.uniform(radius, HEIGHT - radius))
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(1, 7)
    return position, (speed * np.cos(angle), speed * np.sin(angle))


def _range_x(radius: float) -> tuple[float, float]:
    margin = (WIDTH - HEIGHT) / 2 + radius
    return margin, WIDTH - margin


def _moved(position: Point, velocity: Point, radius: float) -> tuple[Point, Point]:
    moved = [_bounced(position[0] + velocity[0], velocity[0], *_range_x(radius))]
    moved.append(_bounced(position[1] + velocity[1], velocity[1], radius, HEIGHT - radius))
    return (moved[0][0], moved[1][0]), (moved[0][1], moved[1][1])


def _bounced(place: float, speed: float, low: float, high: float) -> tuple[float, float]:
    if place < low:
        return min(2 * low - place, high), -speed
    if place > high:
        return max(2 * high - place, low), -speed
    return place, speed


def _painter(rng: Random, label: str) -> Painter:
    """Paints the object of ``label`` into a picture, in place."""
    if label in _WAVES:
        return _texture_painter(rng, label)
    if label not in _COVERS:  # a class that is only heard
        return lambda picture, center, radius: None
    cover, color = _COVERS[label], _color(rng, label)
    angle = rng.uniform(-0.35, 0.35)

    def paint(picture: Pixels, center: Point, radius: float) -> None:
        box, x, y = _box(center, radius)
        turned_x = x * np.cos(angle) + y * np.sin(angle)
        turned_y = y * np.cos(angle) - x * np.sin(angle)
        _blend(picture[box], np.asarray(cover(turned_x, turned_y, radius), np.float32), color)

    return paint


def _texture_painter(rng: Random, label: str) -> Painter:
    across, down = (wave * rng.uniform(0.94, 1.06) for wave in _WAVES[label])

    def paint(picture: Pixels, center: Point, radius: float) -> None:
        box, x, y = _box(center, radius)
        phase = rng.uniform(0, 2 * np.pi)
        wave = np.sqrt(2) * np.sin(2 * np.pi * (across * x + down * y) + phase)
        shift = rng.integers(0, HEIGHT // 2, 2)
        masker = np.roll(_masker_bank()[rng.integers(_BANK)], shift, (0, 1))[box]
        gray = 128 + _TEXTURE_LEVELS * wave + _MASKER_LEVELS * masker
        _blend(picture[box], np.asarray(_disc(x, y, radius), np.float32), gray[..., None])

    return paint


def _box(center: Point, radius: float) -> tuple[tuple[slice, slice], Pixels, Pixels]:
    """The part of the picture around an object, and x, y of its pixels from the object's center."""
    reach = int(radius * 1.5) + 2
    left, right = max(0, int(center[0]) - reach), min(WIDTH, int(center[0]) + reach)
    top, bottom = max(0, int(center[1]) - reach), min(HEIGHT, int(center[1]) + reach)
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    return (slice(top, bottom), slice(left, right)), x - center[0], y - center[1]


def _blend(part: Pixels, cover: Pixels, color: NDArray[np.floating]) -> None:
    part += cover[..., None] * (np.asarray(color, np.float32) - part)


def _color(rng: Random, label: str) -> Pixels:
    """The shape's own color, varied: even a small network learns it in a minute."""
    return np.asarray(_COLORS[label] + rng.uniform(-40, 40, 3), np.float32)


def _disc(x: Pixels, y: Pixels, radius: float) -> Pixels:
    return np.clip(radius - np.hypot(x, y), 0, 1)


def _square(x: Pixels, y: Pixels, radius: float) -> Pixels:
    return np.clip(0.85 * radius - np.maximum(np.abs(x), np.abs(y)), 0, 1)


def _cross(x: Pixels, y: Pixels, radius: float) -> Pixels:
    thin, long = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
    return np.clip(np.minimum(0.3 * radius - thin, radius - long), 0, 1)


def _triangle(x: Pixels, y: Pixels, radius: float) -> Pixels:
    slope = 0.866 * np.abs(x) - 0.5 * y
    return np.clip(np.minimum(0.55 * radius - slope, 0.55 * radius - y), 0, 1)


_COLORS: dict[str, tuple[float, float, float]] = {
    "disc": (215, 70, 70),
    "square": (70, 200, 70),
    "cross": (80, 100, 220),
    "triangle": (215, 200, 60),
}
_COVERS = {"disc": _disc, "square": _square, "cross": _cross, "triangle": _triangle}
_BANK = 16


@cache
def _noise_bank() -> Pixels:
    """Sensor noise to choose from: (16, 240, 320, 1) gray levels."""
    noise = np.random.default_rng(1).normal(0, _NOISE_LEVELS, (_BANK, HEIGHT, WIDTH, 1))
    return np.asarray(noise, np.float32)


@cache
def _masker_bank() -> Pixels:
    """Coarse noise, (16, 240, 320) of unit deviation: it hides what resizing leaves of a texture."""
    spectrum = np.fft.rfft2(np.random.default_rng(2).standard_normal((_BANK, HEIGHT, WIDTH)))
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    spectrum[:, (frequency < 0.02) | (frequency > _MASKER_CUTOFF)] = 0
    noise = np.fft.irfft2(spectrum, (HEIGHT, WIDTH))
    return np.asarray(noise / noise.std(), np.float32)
