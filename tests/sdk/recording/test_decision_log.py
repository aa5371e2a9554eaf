"""What a decision log never says, and what it has to say for its choices to be made again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from runtimes.bundle import Bundle
from sdk.recognizer import StreamRecognizer
from sdk.recording.decision_log import DecisionLog
from sdk.recording.replay import replay
from tests.sdk.films import BRIGHT, film

ADDRESS = "rtsp://joe:hunter2@127.0.0.1:1/a?password=pw2"


def test_credentials_are_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["adaptive-run", "b.bundle", ADDRESS, "--log", "x.jsonl"])
    path = tmp_path / "x.jsonl"
    about = {"source": ADDRESS, "streams": [{"source": ADDRESS}], ADDRESS: 1}
    with DecisionLog(path, about) as log:
        log.write_absent_graphs([ADDRESS])
    text = path.read_text()
    assert "hunter2" not in text and "pw2" not in text and "joe" not in text
    first = json.loads(text.splitlines()[0])
    hidden = "rtsp://***@127.0.0.1:1/a?password=***"
    assert first["source"] == first["streams"][0]["source"] == hidden
    assert first["command"] == f"adaptive-run b.bundle {hidden} --log x.jsonl"


def test_choices_of_a_partial_bundle_can_be_made_again(stored_copy: Path, tmp_path: Path) -> None:
    whole = Bundle.open(stored_copy).folder / "net.low"
    plane = whole.read_bytes()
    whole.unlink()
    path = tmp_path / "x.jsonl"
    with (
        DecisionLog(path) as log,
        StreamRecognizer(stored_copy, "cpu", partial=True, price=0.0, log=log) as recognizer,
    ):
        stream = recognizer.stream(film([BRIGHT] * 4))
        choices = [next(stream).choice, next(stream).choice]
        whole.with_name("part").write_bytes(plane)
        whole.with_name("part").rename(whole)
        assert recognizer.refresh() == ("bits8",)
        choices += [result.choice for result in stream]
    assert choices == ["bits4", "bits4", "bits8", "bits8"]
    assert [(step.replayed[1], step.same) for step in replay(path)] == [(one, True) for one in choices]
