"""Pictures without a time of their own: first ones, later ones, and streams that have no times at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest

from sdk.errors import SourceError, SourceErrorCode
from sdk.media import Frame, Reconnect, open_source
from sdk.media.frames import Picture
from sdk.media.sources.addresses import Address, Kind
from sdk.media.sources.decoder import Decoder, DecoderOptions
from tests.sdk.media.rtsp_server import Clip, encode_clip
from tests.sdk.media.servers import OK, Answer, serving

START_CODE = b"\0\0\0\1"


class Image:
    """What a decoder gives, as far as its time goes."""

    def __init__(self, time_s: float | None) -> None:
        self.time = time_s


class Packet:
    """One that a codec makes one image of."""

    size = 1


class Codec:
    """Gives the images, one a packet."""

    def __init__(self, times: Sequence[float | None]) -> None:
        self._times = iter(times)

    def decode(self, _: object) -> list[Image]:
        return [Image(next(self._times))]


def decoded(times: Sequence[float | None], *, live: bool = True) -> list[float]:
    """The times that pictures of 25 Hz get whose own times are these."""
    decoder = Decoder(Address(Kind.NETWORK, "rtsp://camera/", live=live), DecoderOptions(), lambda: None)
    decoder._period_s, decoder._opened_s, decoder._last_time_s = 0.04, 0.0, None
    decoder._has_times, decoder._bad_packets, decoder._untimed = False, 0, []
    decoder._stream = type("Stream", (), {"codec_context": Codec(times)})()  # type: ignore[assignment]

    def pictures() -> Iterator[Picture]:
        for _ in times:
            yield from decoder._decode(Packet())  # type: ignore[arg-type]
        yield from decoder._untimed_before(None)

    return [picture.time_s for picture in pictures()]


@pytest.mark.parametrize("live", [True, False])
def test_the_first_pictures_come_a_period_before_the_first_time(live: bool) -> None:
    assert decoded([None, None, 7.08, 7.12], live=live) == pytest.approx([7.0, 7.04, 7.08, 7.12])


@pytest.mark.parametrize("live", [True, False])
def test_a_later_picture_comes_a_period_after_the_last(live: bool) -> None:
    times = [95443.0, None, None, 95443.12]
    assert decoded(times, live=live) == pytest.approx([95443.0, 95443.04, 95443.08, 95443.12])


def test_a_file_without_times_has_its_rate() -> None:
    assert decoded([None] * 12, live=False) == pytest.approx([n * 0.04 for n in range(12)])


def test_a_live_stream_without_times_has_those_of_arrival() -> None:
    made = decoded([None] * 20)
    assert len(made) == 20 and all(after > before for before, after in pairwise(made))


@pytest.fixture(scope="module")
def elementary_stream() -> bytes:
    """H.264 as it is, without a container: without any times."""
    clip: Clip = encode_clip(pictures=60, group=60)
    units = [*clip.parameter_sets, *(unit for picture in clip.pictures for unit in picture)]
    return b"".join(START_CODE + unit for unit in units)


def test_a_network_stream_without_times_is_not_interrupted(elementary_stream: bytes) -> None:
    frames: list[Frame] = []
    once = Reconnect(limit=0)
    with serving([Answer(OK + elementary_stream)]) as address, pytest.raises(SourceError) as caught:
        for frame in open_source(address, rate_hz=1000, reconnect=once, queue_size=99, max_staleness_s=99):
            frames.append(frame)
    assert caught.value.code is SourceErrorCode.LOST
    assert not any(frame.restarted for frame in frames)
    assert all(after.time_s > before.time_s for before, after in pairwise(frames))
