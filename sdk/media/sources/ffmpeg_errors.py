"""FFmpeg's errors in the SDK's words: no error of PyAV leaves ``sdk.media``."""

from __future__ import annotations

import av

from sdk.errors import SourceError, SourceErrorCode
from sdk.media.sources.addresses import Address, Kind

_Row = tuple[type[BaseException] | tuple[type[BaseException], ...], SourceErrorCode, str]

_ANYWHERE: tuple[_Row, ...] = (
    (
        (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError),
        SourceErrorCode.AUTH_FAILED,
        "check user and password",
    ),
    (
        (av.error.FileNotFoundError, av.error.HTTPNotFoundError),
        SourceErrorCode.NOT_FOUND,
        "check the address",
    ),
    (
        (av.error.TimeoutError, av.error.ExitError),
        SourceErrorCode.TIMEOUT,
        "check that the device sends, or give it longer (open_timeout_s, read_timeout_s)",
    ),
    (
        (av.error.DecoderNotFoundError, av.error.PatchWelcomeError),
        SourceErrorCode.CODEC_UNSUPPORTED,
        "convert it, e.g. to H.264 in mp4",
    ),
)
_LOCAL: tuple[_Row, ...] = (
    (av.error.PermissionError, SourceErrorCode.PERMISSION_DENIED, "give this user the right to read it"),
    (
        (av.error.InvalidDataError, av.error.EOFError),
        SourceErrorCode.NOT_A_VIDEO,
        "give a video that FFmpeg can read",
    ),
    (
        (av.error.FilterNotFoundError, av.error.OptionNotFoundError, av.error.ArgumentError),
        SourceErrorCode.BAD_ADDRESS,
        "check the address, e.g. test://?size=320x240&rate=30&pattern=testsrc2",
    ),
)


def source_error(error: av.error.FFmpegError, address: Address) -> SourceError:
    """The SourceError that says what ``error`` means for ``address``."""
    rows = _ANYWHERE if address.kind is Kind.NETWORK else _ANYWHERE + _LOCAL
    for types, code, fix in rows:
        if isinstance(error, types):
            return SourceError(address, _reason(error), fix, code)
    if address.kind is Kind.NETWORK:
        return SourceError(
            address, _reason(error), "check the address and the network", SourceErrorCode.CONNECTION_FAILED
        )
    return SourceError(
        address, _reason(error), "convert it anew, e.g. to H.264 in mp4", SourceErrorCode.CORRUPT
    )


def _reason(error: av.error.FFmpegError) -> str:
    return (error.strerror or type(error).__name__).lower()
