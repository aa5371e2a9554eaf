"""The level of sound: what is as loud as ever calls for nothing, what is louder does, by and by."""

from __future__ import annotations

import numpy as np
import pytest

from sdk.media.absence import SOUND_NOT_BEGUN
from sdk.media.frames import Sound
from sdk.media.signals.sound_level import LevelChange, sound_level

RATE_HZ, STEP_S = 16000, 0.25
CALLS = 6.0


def heard(random: np.random.Generator, gain: float) -> Sound:
    """A segment four steps long, of which the last step is this loud."""
    samples = (gain * random.normal(0, 0.01, RATE_HZ)).astype(np.float32)
    return Sound(samples, RATE_HZ)


def measured(change: LevelChange, random: np.random.Generator, gain: float, steps: int) -> list[float]:
    levels = [sound_level(heard(random, gain), STEP_S) for _ in range(steps)]
    return [change.measure(level) for level in levels if level is not None]


def test_a_room_as_loud_as_ever() -> None:
    level, random = LevelChange(), np.random.default_rng(0)
    found = measured(level, random, 1.0, 500)
    assert max(found) < CALLS


def test_a_voice_calls_at_once_and_a_hum_by_and_by() -> None:
    level, random = LevelChange(), np.random.default_rng(1)
    measured(level, random, 1.0, 200)
    (voice,) = measured(level, random, 10.0, 1)
    assert voice >= CALLS
    level.mark_look()
    measured(level, random, 1.0, 200)
    hum = measured(level, random, 1.5, 60)
    assert hum[0] < CALLS <= max(hum)


def test_digital_silence_has_no_changes() -> None:
    level, random = LevelChange(), np.random.default_rng(2)
    found = measured(level, random, 0.0, 100) + measured(level, random, 1e-5, 100)
    assert all(value == 0.0 for value in found)


def test_level_is_of_what_is_new() -> None:
    """A quarter of a second of a full-scale square wave, after silence."""
    samples = np.concatenate([np.zeros(RATE_HZ), np.ones(RATE_HZ // 4)]).astype(np.float32)
    assert sound_level(Sound(samples, RATE_HZ), STEP_S) == pytest.approx(0.0, abs=1e-6)
    assert sound_level(Sound(samples, RATE_HZ), 1.25) == pytest.approx(10 * np.log10(0.2), abs=1e-4)


def test_absent_sound_has_none() -> None:
    assert sound_level(Sound(np.zeros(0, np.float32), RATE_HZ, SOUND_NOT_BEGUN), STEP_S) is None
