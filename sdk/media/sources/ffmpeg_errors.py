"""FFmpeg's errors in the SDK's words: no error of PyAV leaves ``sdk.media``."""

from __future__ import annotations

import errno

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
_NETWORK: tuple[_Row, ...] = (
    (
        (av.error.HTTPBadRequestError, av.error.ProtocolNotFoundError, av.error.ArgumentError),
        SourceErrorCode.BAD_ADDRESS,
        "check the address",
    ),
)
_CAMERA: tuple[_Row, ...] = (
    (
        av.error.ArgumentError,
        SourceErrorCode.BAD_ADDRESS,
        "give a size and rate that the camera has, as v4l2-ctl --list-formats-ext lists",
    ),
)
_BY_KIND = {Kind.NETWORK: _ANYWHERE + _NETWORK, Kind.CAMERA: _ANYWHERE + _CAMERA + _LOCAL}
_OTHERWISE = {
    Kind.NETWORK: (SourceErrorCode.CONNECTION_FAILED, "check the address and the network"),
    Kind.CAMERA: (
        SourceErrorCode.CONNECTION_FAILED,
        "check that the camera is plugged in and that no other program uses it",
    ),
}


def source_error(error: av.error.FFmpegError, address: Address) -> SourceError:
    """The SourceError that says what ``error`` means for ``address``."""
    if error.errno == errno.ENOTTY:  # what a file or another device answers to a camera's questions
        return SourceError(address, "is not a camera", "give one of /dev/video*", SourceErrorCode.NOT_A_VIDEO)
    rows = _BY_KIND.get(address.kind, _ANYWHERE + _LOCAL)
    for types, code, fix in rows:
        if isinstance(error, types):
            return SourceError(address, _reason(error), fix, code)
    corrupt = SourceErrorCode.CORRUPT, "convert it anew, e.g. to H.264 in mp4"
    code, fix = _OTHERWISE.get(address.kind, corrupt)
    return SourceError(address, _reason(error), fix, code)


def _reason(error: av.error.FFmpegError) -> str:
    return (error.strerror or type(error).__name__).lower()
