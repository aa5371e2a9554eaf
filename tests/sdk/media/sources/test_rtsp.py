"""Cameras over RTSP: no picture is lost, at the start or after a reconnection, however long a group is."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sdk.errors import SourceError, SourceErrorCode
from sdk.media import Frame, Reconnect, open_source
from tests.sdk.media.rtsp_server import Clip, Session, encode_clip, serving_rtsp

SOON = Reconnect(limit=1, first_s=0.02, longest_s=0.05)
RATE_HZ = 25


@pytest.fixture(scope="module")
def clip() -> Clip:
    """Ten seconds: key frames 10 s apart, as of cameras with "smart" codecs."""
    return encode_clip(pictures=250, rate_hz=RATE_HZ, group=250)


def seen(address: str, read_timeout_s: float = 5.0) -> list[Frame]:
    """Every picture until the camera is lost for good."""
    frames: list[Frame] = []
    source = open_source(
        address,
        rate_hz=1000,
        reconnect=SOON,
        queue_size=999,
        max_staleness_s=99,
        read_timeout_s=read_timeout_s,
    )
    with source, pytest.raises(SourceError) as caught:
        frames.extend(frame for frame in source)
    assert caught.value.code is SourceErrorCode.LOST and "secret" not in str(caught.value)
    assert not any(source.drops.values())
    return frames


@pytest.mark.parametrize("burst", [250, 1])
def test_every_picture_comes(clip: Clip, burst: int) -> None:
    count = 250 if burst > 1 else 60
    with serving_rtsp(clip, [Session(count, burst)]) as address:
        frames = seen(address)
    assert len(frames) == count
    assert frames[0].time_s == pytest.approx(0.0, abs=0.05)
    steps = [after.time_s - before.time_s for before, after in pairwise(frames)]
    assert steps == pytest.approx([1 / RATE_HZ] * (count - 1), abs=1e-3)


def test_nothing_is_lost_after_a_reconnection(clip: Clip) -> None:
    with serving_rtsp(clip, [Session(40), Session(70)]) as address:
        frames = seen(address)
    assert [frame.restarted for frame in frames].index(True) == 40 and len(frames) == 110
    assert all(after.time_s > before.time_s for before, after in pairwise(frames))
    assert frames[40].source_time_s == pytest.approx(frames[0].source_time_s, abs=0.05)


def test_a_camera_that_goes_silent_is_connected_again(clip: Clip) -> None:
    with serving_rtsp(clip, [Session(30, hangs=True), Session(30)]) as address:
        assert len(seen(address, read_timeout_s=0.5)) == 60


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        ("404 Not Found", SourceErrorCode.NOT_FOUND),
        ("401 Unauthorized", SourceErrorCode.AUTH_FAILED),
        ("400 Bad Request", SourceErrorCode.BAD_ADDRESS),
    ],
)
def test_what_is_refused_is_not_tried_again(clip: Clip, refused: str, code: SourceErrorCode) -> None:
    sessions = [Session(0, refused=refused), Session(10)]
    with serving_rtsp(clip, sessions) as address, pytest.raises(SourceError) as caught:
        list(open_source(address, rate_hz=8, reconnect=SOON))
    assert caught.value.code is code and "attempts" not in caught.value.reason


def test_a_first_opening_that_fails_in_passing_is_tried_again(clip: Clip) -> None:
    """A camera that is starting: busy, then without a picture, then there."""
    soon = Reconnect(limit=2, first_s=0.02, longest_s=0.05)
    sessions = [Session(0, refused="503 Service Unavailable"), Session(0), Session(20)]
    with serving_rtsp(clip, sessions) as address, pytest.raises(SourceError) as caught:
        frames = []
        for frame in open_source(address, rate_hz=1000, reconnect=soon, queue_size=99, max_staleness_s=99):
            frames.append(frame)
    assert len(frames) == 20 and not frames[0].restarted
    assert caught.value.code is SourceErrorCode.LOST


def test_a_refusal_after_a_passing_failure_is_what_is_reported(clip: Clip) -> None:
    sessions = [
        Session(0, refused="503 Service Unavailable"),
        Session(0, refused="404 Not Found"),
        Session(10),
    ]
    with serving_rtsp(clip, sessions) as address, pytest.raises(SourceError) as caught:
        list(open_source(address, rate_hz=8, reconnect=Reconnect(first_s=0.02)))
    assert caught.value.code is SourceErrorCode.NOT_FOUND


def test_a_first_opening_that_fails_is_tried_again() -> None:
    with pytest.raises(SourceError, match=r"\(2 attempts\)") as caught:
        list(open_source("rtsp://127.0.0.1:9/x", rate_hz=8, reconnect=SOON))
    assert caught.value.code is SourceErrorCode.CONNECTION_FAILED
