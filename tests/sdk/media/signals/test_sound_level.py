"""The level of sound: what is as loud as ever calls for nothing, what is louder does, by and by."""

from __future__ import annotations

import numpy as np

from sdk.media.absence import SOUND_NOT_BEGUN
from sdk.media.frames import Sound
from sdk.media.signals.sound_level import SoundLevel

RATE_HZ, STEP_S = 16000, 0.25
CALLS = 6.0


def heard(random: np.random.Generator, gain: float) -> Sound:
    """A segment four steps long, of which the last step is this loud."""
    samples = (gain * random.normal(0, 0.01, RATE_HZ)).astype(np.float32)
    return Sound(samples, RATE_HZ)


def measured(level: SoundLevel, random: np.random.Generator, gain: float, steps: int) -> list[float | None]:
    return [level.measure(heard(random, gain), STEP_S) for _ in range(steps)]


def test_a_room_as_loud_as_ever() -> None:
    level, random = SoundLevel(), np.random.default_rng(0)
    found = measured(level, random, 1.0, 500)
    assert max(value for value in found if value is not None) < CALLS


def test_a_voice_calls_at_once_and_a_hum_by_and_by() -> None:
    level, random = SoundLevel(), np.random.default_rng(1)
    measured(level, random, 1.0, 200)
    (voice,) = measured(level, random, 10.0, 1)
    assert voice is not None and voice >= CALLS
    level.mark_look()
    measured(level, random, 1.0, 200)
    hum = [value for value in measured(level, random, 1.5, 60) if value is not None]
    assert hum[0] < CALLS <= max(hum)


def test_digital_silence_has_no_changes() -> None:
    level, random = SoundLevel(), np.random.default_rng(2)
    found = measured(level, random, 0.0, 100) + measured(level, random, 1e-5, 100)
    assert all(value == 0.0 for value in found)


def test_absent_sound_is_no_signal() -> None:
    level = SoundLevel()
    assert level.measure(Sound(np.zeros(0, np.float32), RATE_HZ, SOUND_NOT_BEGUN), STEP_S) is None
