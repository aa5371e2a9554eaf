"""Files are streamed at their own pace while there is a budget: power is energy over time."""

from __future__ import annotations

import time
from pathlib import Path

from runtimes.bundle import Bundle
from sdk import Budget, StreamRecognizer
from sdk.power import ModeledMeter
from tests.sdk.films import BRIGHT, encode


def test_a_file_is_taken_at_its_own_pace_under_a_budget(bundle: Bundle, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", [BRIGHT] * 45)
    with StreamRecognizer(bundle, "cpu", meter=ModeledMeter(1.0, 1.0), budget=Budget(watts=10)) as recognizer:
        for take in (lambda: list(recognizer.stream(clip)), lambda: recognizer.recognize(clip)):
            began = time.monotonic()
            take()
            assert time.monotonic() - began > 1.2
        recognizer.budget = None
        began = time.monotonic()
        list(recognizer.stream(clip))
        assert time.monotonic() - began < 1.2


def test_a_file_is_taken_at_its_own_pace_once_a_budget_is_set(bundle: Bundle, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", [BRIGHT] * 75)
    took: list[float] = []
    with StreamRecognizer(bundle, "cpu", meter=ModeledMeter(1.0, 1.0)) as recognizer:
        began = time.monotonic()
        for number, _ in enumerate(recognizer.stream(clip), 1):
            if number in (10, 20):
                recognizer.budget = Budget(watts=10) if number == 10 else None
                took.append(time.monotonic() - began)
                began = time.monotonic()
        took.append(time.monotonic() - began)
    _, paced, unpaced_again = took
    assert paced > 0.8 and unpaced_again < paced
