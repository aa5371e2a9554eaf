"""Statistics, results and bundles print themselves readably."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from runtimes.bundle import Bundle
from sdk.recognizer import StreamRecognizer
from tests.sdk.films import BRIGHT, encode


def test_they_print_readably(bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = encode(tmp_path / "film.mp4", [BRIGHT] * 30)
    with caplog.at_level(logging.INFO, "sdk"), StreamRecognizer(bundle, "cpu") as recognizer:
        clip = recognizer.recognize(path)
        statistics = recognizer.stats()
        assert recognizer.labels == bundle.manifest.labels
    text = str(statistics)
    assert text.splitlines()[0].startswith(f"{clip.steps} steps") and "p95 ms" in text
    assert "\x1b" not in text and len(max(text.splitlines(), key=len)) <= 100
    assert statistics._repr_html_().startswith("<pre") and "p95 ms" in statistics._repr_html_()
    for shown in (clip, clip.recognitions[0], bundle, recognizer):
        assert len(repr(shown)) < 400 and "\n" not in repr(shown)
    assert repr(clip).startswith(f"<ClipRecognition {str(path)!r}: {clip.label!r} {clip.score:.2f}")
    assert caplog.records[0].name == "sdk.recognizer"
