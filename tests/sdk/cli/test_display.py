"""What adaptive-run prints of one step."""

from __future__ import annotations

import pytest

from sdk.cli.display import display
from sdk.results import Latency, Recognition
from sdk.streaming.statistics import Statistics


@pytest.mark.parametrize(
    ("modalities", "said"),
    [
        ({"rgb": "ran", "audio": "not chosen"}, "3.00 ms"),
        ({"rgb": "held", "audio": "held"}, "3.00 ms"),
        ({"rgb": "ran", "audio": "absent: no audio track"}, "3.00 ms  (audio absent: no audio track)"),
        ({"rgb": "failed: broke off", "audio": "late"}, "3.00 ms  (rgb failed: broke off, audio late)"),
    ],
)
def test_a_line_says_what_could_not_be_had(
    capsys: pytest.CaptureFixture[str], modalities: dict[str, str], said: str
) -> None:
    latency = Latency(queue=0, decode=1, resize=0, policy=1, branch=1, post=0, total=3)
    recognition = Recognition(
        time_s=1.28,
        step=0,
        label="chirp",
        score=0.5,
        top=(("chirp", 0.5),),
        choice="rgb+audio-off",
        precision="int8",
        latency_ms=latency,
        dropped=0,
        restarted=False,
        modalities=modalities,
    )
    with display(False, Statistics().snapshot) as show:
        show(recognition)
    line = capsys.readouterr().out.rstrip("\n")
    assert line.endswith(said)
    assert line.split()[:3] == ["1.28", "s", "chirp"]
