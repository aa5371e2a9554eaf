"""The errors of the SDK's own making, beside those of the runtimes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from numbers import Integral
from typing import Any

from runtimes.errors import AdaptiveVideoError, ArgumentError

_CREDENTIALS = re.compile(r"(?<=://)(?:[^/?#\s@:]*:[^\s]*|[^/?#\s]*)@")
"""User and password of a URL; a password may hold any sign, however wrongly it is written."""
_SECRET_FIELDS = re.compile(
    r"(?i)(?<=[?&])(password|passwd|pass|pwd|token|secret|key|api_?key|auth|user)=[^&#\s]*"
)


def redact(text: object) -> str:
    """``text`` with the user, the password and secret query fields of every URL in it replaced by ``***``."""
    hidden = _CREDENTIALS.sub("***@", str(text))
    return _SECRET_FIELDS.sub(r"\1=***", hidden)


def redact_all(value: Any) -> Any:
    """A JSON value with every string in it redacted, however deep."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(key): redact_all(inner) for key, inner in value.items()}
    return [redact_all(inner) for inner in value] if isinstance(value, list | tuple) else value


def require_whole(name: str, value: object, least: int, of: str) -> None:
    """Raises: ArgumentError if ``value`` is not a whole number, of ``of``, of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ArgumentError(f"{name} {value!r}", f"is not a number of {of}", f"use {least} or more")


class OptionError(AdaptiveVideoError):
    """An option is not one of the variant's, or its graph is not there."""


class ModalityError(AdaptiveVideoError):
    """A model cannot do without a modality that the source lacks."""


class ViewError(AdaptiveVideoError):
    """A view, or several together, cannot be rendered as declared."""


class BusyError(AdaptiveVideoError):
    """A recognizer takes one stream at a time, and one is running."""


class RecordingError(AdaptiveVideoError):
    """A decision log or a golden trace cannot be read or made, or is damaged."""


class SourceOptionError(ArgumentError, ValueError):
    """An option of a source has a value that it cannot have."""


class SourceErrorCode(StrEnum):
    """Why a source gave no frames, or no more."""

    UNKNOWN_SCHEME = "unknown_scheme"
    BAD_ADDRESS = "bad_address"
    NOT_FOUND = "not_found"
    PERMISSION_DENIED = "permission_denied"
    NOT_A_VIDEO = "not_a_video"
    NO_VIDEO_STREAM = "no_video_stream"
    CODEC_UNSUPPORTED = "codec_unsupported"
    CORRUPT = "corrupt"
    BAD_FRAME = "bad_frame"
    CONNECTION_FAILED = "connection_failed"
    AUTH_FAILED = "auth_failed"
    TIMEOUT = "timeout"
    LOST = "lost"


class SourceError(AdaptiveVideoError):
    """A video source cannot be opened or read; ``code`` says which way. Credentials never appear in it."""

    def __init__(self, thing: object, reason: str, fix: str, code: SourceErrorCode) -> None:
        self.code = code
        super().__init__(redact(thing), redact(reason), fix)

    def __reduce__(self) -> tuple[type[SourceError], tuple[str, str, str, SourceErrorCode]]:  # type: ignore[override]
        return (type(self), (self.thing, self.reason, self.fix, self.code))
