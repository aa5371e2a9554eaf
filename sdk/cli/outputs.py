"""The files that adaptive-run is to write, all checked before any is opened: a mistake changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runtimes.errors import ArgumentError
from runtimes.outputs import require_writable
from sdk.sinks.annotated_video import check_video_path
from sdk.sinks.plot import check_plot_path


def check_outputs(
    log: Path | None, plot: Path | None, save_video: Path | None, read: Mapping[str, str]
) -> None:
    """``read``: what the command reads, by what it is; no output may be one of them.

    Raises: OutputError, MissingPackageError; ArgumentError if one file is named twice.
    """
    if log is not None:
        require_writable(log, "decisions.jsonl")
    if plot is not None:
        check_plot_path(plot)
    if save_video is not None:
        check_video_path(save_video)
    outputs = {"--log": log, "--plot": plot, "--save-video": save_video}
    taken = {Path(path).resolve(): name for name, path in read.items()}
    for name, path in outputs.items():
        if path is None:
            continue
        other = taken.setdefault(path.resolve(), name)
        if other != name:
            raise ArgumentError(f"{name} {path}", f"is {other} too", "name another file")
