"""What a source is called, and what that means for FFmpeg: paths, cameras, network streams, test patterns."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from sdk.errors import SourceError, SourceErrorCode, redact

KNOWN_SCHEMES = (
    "a path, file://, camera:0, camera:0+mic:default, v4l2:///dev/video0, rtsp://, http(s)://, test://"
)

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]+):")
_BEFORE_HOST = re.compile(r"(?s)(?<=://).*@")
# Not fflags=nobuffer: it throws away what was read while probing, up to the next key frame.
_RTSP_OPTIONS = {
    "rtsp_transport": "tcp",
    "flags": "low_delay",
    "max_delay": "500000",
    "reorder_queue_size": "0",
}

_TONE = "sine=frequency=220:beep_factor=4:sample_rate=24000"
"""A test pattern's sound: a tone, and the first 40 ms of each second a beep of 880 Hz over it."""


@dataclass(frozen=True, slots=True)
class _Values:
    """What a field of an address may be: a regular expression, the same in words, and one of them."""

    pattern: str
    said: str
    example: str


_PATTERNS = (
    "testsrc2", "testsrc", "color", "gradients", "pal100bars", "pal75bars", "rgbtestsrc", "smptebars",
    "smptehdbars", "yuvtestsrc", "zoneplate",
)  # fmt: skip
_SIZE = _Values(r"[1-9]\d{0,3}x[1-9]\d{0,3}", "a width x a height in pixels", "320x240")
_POSITIVE = _Values(r"(?=.*[1-9])\d+(\.\d+)?", "a number above 0", "10")
_SWITCH = _Values("[01]", "0 or 1", "0")
_PATTERN = _Values("|".join(_PATTERNS), f"one of {', '.join(_PATTERNS)}", _PATTERNS[0])


class Kind(Enum):
    """Where frames come from."""

    FILE = "file"
    CAMERA = "camera"
    NETWORK = "network"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Address:
    """A source as FFmpeg opens it. ``live``: frames come at their own pace; None: known once it is open.

    ``sound_graph``: of a test pattern, the filter graph that makes its sound. ``microphone``: the ALSA
    device that is heard beside a camera. ``given``: the address as the user wrote it, for messages.
    """

    kind: Kind
    url: str
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    live: bool | None = False
    sound_graph: str | None = None
    microphone: str | None = None
    given: str = ""

    def __str__(self) -> str:
        return redact(self.given or self.url)

    @property
    def url_with_sound(self) -> str:
        """The url to open where sound is wanted too."""
        return f"{self.url}[out0];{self.sound_graph}[out1]" if self.sound_graph else self.url


def parse_address(source: str | os.PathLike[str]) -> Address:
    """The address that ``source`` names.

    Raises: SourceError for what is not a path or address, an unknown scheme, a missing file or a malformed
    address.
    """
    if not isinstance(source, str | os.PathLike):
        raise not_a_source(source)
    text = os.fsdecode(source)
    try:
        return replace(_parsed(text, is_path=not isinstance(source, str)), given=text)
    except ValueError:  # of urlsplit, for a host or port; its words may have part of a password in them
        fix = "check it, and write / ? # @ in a password as %2F %3F %23 %40"
        raise _malformed(_BEFORE_HOST.sub("***@", text), "is not a valid address", fix) from None
    except OSError as error:  # a name too long, a folder that may not be looked into
        reason = (error.strerror or type(error).__name__).lower()
        denied = isinstance(error, PermissionError)
        code = SourceErrorCode.PERMISSION_DENIED if denied else SourceErrorCode.NOT_FOUND
        raise SourceError(text, reason, "check the path", code) from None


def not_a_source(source: object) -> SourceError:
    """That ``source`` is of a type that names none."""
    reason = f"is {type(source).__name__}, not a source"
    return SourceError(repr(source), reason, f"give {KNOWN_SCHEMES}, or frames", SourceErrorCode.BAD_ADDRESS)


def _parsed(text: str, *, is_path: bool) -> Address:
    scheme = _SCHEME.match(text)
    if is_path or scheme is None:
        return _file(Path(text), text)
    name = scheme[1].lower()
    if name == "file":
        return _file(Path(unquote(urlsplit(text).path)), text)
    if name == "rtsp" or name == "rtsps":
        return _network(Address(Kind.NETWORK, text, options=dict(_RTSP_OPTIONS), live=True))
    if name == "http" or name == "https":
        return _network(Address(Kind.NETWORK, text, live=None))
    if name == "camera" or name == "v4l2":
        return _camera(text)
    if name == "test":
        return _test_pattern(text)
    if Path(text).exists():
        return _file(Path(text), text)
    raise SourceError(
        text, f"unknown scheme {name}:", f"give {KNOWN_SCHEMES}", SourceErrorCode.UNKNOWN_SCHEME
    )


def _network(address: Address) -> Address:
    """``address``, if it has a host. Raises: SourceError; ValueError if its port is not one."""
    parts = urlsplit(address.url)
    if not parts.hostname or parts.port == 0:
        raise _malformed(address.url, "has no host to connect to", "give it, as in rtsp://192.168.1.20/live")
    return address


def _file(path: Path, given: str) -> Address:
    if path.is_dir():
        raise SourceError(given or path, "is a folder", "give one video file", SourceErrorCode.NOT_A_VIDEO)
    if not path.exists():
        raise SourceError(given, "no such file", "check the path", SourceErrorCode.NOT_FOUND)
    # The protocol is named, or FFmpeg would read a file called "a:b.mp4" as a URL.
    return Address(Kind.FILE, f"file:{path}")


def _camera(text: str) -> Address:
    parts = urlsplit(text)
    path, plus, microphone = parts.path.partition("+mic:")
    device = f"/dev/video{path}" if parts.scheme == "camera" else path
    if not re.fullmatch(r"/dev/[\w./-]+", device):
        raise _malformed(text, "not a camera", "camera:0 or v4l2:///dev/video0?size=1280x720&rate=30")
    if plus and not re.fullmatch(r"[\w:,.=-]+", microphone):
        raise _malformed(text, "not a microphone", "camera:0+mic:default, or +mic:hw:1,0 as arecord -l lists")
    if not Path(device).exists():
        raise SourceError(
            text,
            f"there is no device {device}",
            "plug the camera in, or list /dev/video*",
            SourceErrorCode.NOT_FOUND,
        )
    fields = _fields(text, {"size": _SIZE, "rate": _POSITIVE})
    names = {"size": "video_size", "rate": "framerate"}
    options = {names[key]: value for key, value in fields.items()}
    if microphone:  # ALSA's times are of the wall clock: so must be the camera's
        options["ts"] = "abs"
    return Address(Kind.CAMERA, device, "v4l2", options, live=True, microphone=microphone or None)


def _test_pattern(text: str) -> Address:
    allowed = {"size": _SIZE, "rate": _POSITIVE, "duration": _POSITIVE}
    fields = _fields(text, allowed | {"pattern": _PATTERN, "live": _SWITCH, "sound": _SWITCH})
    sounds = fields.pop("sound", "1") == "1"
    live = fields.pop("live", "1") == "1"
    pattern = fields.pop("pattern", "testsrc2")
    settings = {"size": "320x240", "rate": "30"} | fields
    graph = ":".join(f"{key}={value}" for key, value in settings.items())
    tone = _TONE + (f":duration={fields['duration']}" if "duration" in fields else "")
    return Address(Kind.TEST, f"{pattern}={graph}", "lavfi", live=live, sound_graph=tone if sounds else None)


def _fields(text: str, allowed: dict[str, _Values]) -> dict[str, str]:
    """The query of an address, each value checked: it becomes an FFmpeg option. Raises: SourceError."""
    fields = {
        key: values[-1] for key, values in parse_qs(urlsplit(text).query, keep_blank_values=True).items()
    }
    for key, value in fields.items():
        if key not in allowed:
            raise _malformed(text, f"{key} is unknown", f"these may be set: {', '.join(sorted(allowed))}")
        if not re.fullmatch(allowed[key].pattern, value):
            reason = f"{key}={value} is not {allowed[key].said}"
            raise _malformed(text, reason, f"give it so, as {key}={allowed[key].example}")
    return fields


def _malformed(thing: str, reason: str, fix: str) -> SourceError:
    return SourceError(thing, reason, fix, SourceErrorCode.BAD_ADDRESS)
