from __future__ import annotations

import pickle

import pytest

from sdk.errors import SourceError, SourceErrorCode, redact


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://admin:hunter2@camera/stream",
        "rtsp://admin:hunt@er2@camera/stream",
        "rtsp://admin:hunter2/#?hunter2@camera/stream",
        "rtsp://admin:8/hunter2@camera/stream",
        "https://camera/live.m3u8?user=bob&token=hunter2",
        "cannot open http://hunter2@camera/x?quality=1&Password=hunter2#top",
    ],
)
def test_credentials_never_show(address: str) -> None:
    error = SourceError(address, f"{address} refused", "fix it", SourceErrorCode.AUTH_FAILED)
    for text in (str(error), repr(error), error.thing, error.reason, redact(address)):
        assert "hunt" not in text
        assert "camera" in text


def test_survives_pickling() -> None:
    error = SourceError("clip.mp4", "is empty", "give another", SourceErrorCode.NOT_A_VIDEO)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, str(copy)) == (error.code, str(error))
