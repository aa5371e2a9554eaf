"""Addresses: errors print them as they were given, without credentials, and what is wrong fails at once."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import av
import pytest

from sdk.errors import SourceError, SourceErrorCode, SourceOptionError
from sdk.media import open_source
from sdk.media.sources import addresses
from sdk.media.sources.addresses import Address, Kind, parse_address
from sdk.media.sources.ffmpeg_errors import source_error


@pytest.mark.parametrize(
    "given",
    [
        "test://?rate=-1",
        "test://?pattern=nonsense",
        "file:///nowhere/clip.mp4",
        "camera:77?size=1x1",
        "v4l2:///dev/video77",
        "v4l2:///dev/null",
        "rtsp://",
        "http:///clip.mp4",
        "rtsp://[::1/live",
        "rtsp://127.0.0.1:99999/live",
        "test://[",
        "n" * 5000,
    ],
)
def test_errors_print_the_address_as_given(given: str) -> None:
    with pytest.raises(SourceError) as caught:
        list(open_source(given, rate_hz=8))
    assert caught.value.thing == given and "attempts" not in caught.value.reason


def test_opened_addresses_print_as_given(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.touch()
    for given in (str(path), f"file://{path}", "test://?duration=1", "rtsp://camera/live"):
        assert str(parse_address(given)) == given
    assert str(parse_address(path)) == str(path)


@pytest.mark.parametrize("password", ["se/cret", "se#cret", "se?cret", "secret"])
def test_no_part_of_a_password_is_printed(password: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_address(f"rtsp://admin:{password}@camera:port/live")
    assert str(caught.value).startswith("rtsp://***@camera:port/live: is not a valid address; ")
    assert "cret" not in str(caught.value) and caught.value.code is SourceErrorCode.BAD_ADDRESS


@pytest.mark.parametrize("source", [None, 0, 3.5, ["a"]])
def test_what_names_no_source(source: object) -> None:
    with pytest.raises(SourceError, match="not a source"):
        parse_address(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EBUSY, SourceErrorCode.CONNECTION_FAILED),
        (errno.ENODEV, SourceErrorCode.CONNECTION_FAILED),
        (errno.EINVAL, SourceErrorCode.BAD_ADDRESS),
        (errno.ENOTTY, SourceErrorCode.NOT_A_VIDEO),
        (errno.EACCES, SourceErrorCode.PERMISSION_DENIED),
    ],
)
def test_what_a_camera_answers(number: int, code: SourceErrorCode) -> None:
    """A camera that another program uses may be free soon: its opening is tried again."""
    with pytest.raises(av.error.FFmpegError) as caught:
        av.error.err_check(-number)
    error = source_error(caught.value, Address(Kind.CAMERA, "/dev/video0", given="camera:0"))
    assert error.code is code and error.thing == "camera:0" and "mp4" not in error.fix


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"queue_size": "x"}, "queue_size 'x': is not a whole number of at least 1; use 1 or more"),
        ({"queue_size": 0}, "queue_size 0: is not"),
        ({"threads": 1.5}, "threads 1.5: is not"),
        ({"gap_s": None}, "gap_s None: is not a number"),
        ({"max_staleness_s": float("nan")}, "max_staleness_s nan: is not"),
        ({"open_timeout_s": 0}, "open_timeout_s 0: is not"),
        ({"read_timeout_s": "5"}, "read_timeout_s '5': is not"),
        ({"reconnect": 3}, "reconnect 3: is not a Reconnect"),
        ({"sound_rate_hz": "x"}, "sound_rate_hz 'x': is not a sampling rate"),
    ],
)
def test_options_that_are_not_numbers(options: dict[str, object], words: str) -> None:
    with pytest.raises(SourceOptionError) as caught:
        open_source("test://?duration=1", rate_hz=8, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("duration=-5", "duration=-5 is not a number above 0; give it so, as duration=10"),
        ("duration=0", "duration=0 is not a number above 0"),
        ("rate=0.0", "rate=0.0 is not a number above 0"),
        ("rate=fast", "rate=fast is not a number above 0"),
        ("size=0x3", "size=0x3 is not a width x a height in pixels"),
        ("pattern=foo", "pattern=foo is not one of testsrc2, testsrc, color"),
        ("live=yes", "live=yes is not 0 or 1"),
        ("color=red", "color is unknown; these may be set: duration, live, pattern, rate, size, sound"),
    ],
)
def test_a_wrong_value_is_named_with_what_may_be(query: str, words: str) -> None:
    with pytest.raises(SourceError, match=re.escape(words)):
        parse_address(f"test://?{query}")


@pytest.mark.parametrize("pattern", addresses._PATTERNS)
def test_every_pattern_is_there(pattern: str) -> None:
    source = f"test://?size=64x48&rate=10&duration=1&live=0&sound=0&pattern={pattern}"
    assert len(list(open_source(source, rate_hz=5))) == 5
