"""``adaptive-run``: recognise a file, camera or stream, and show what is chosen and what it costs."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from sdk.annotate import AnnotatedVideo
from sdk.cli.command import Version, run_command
from sdk.cli.display import display, print_missing, print_summary
from sdk.power import open_meter
from sdk.recognizer import StreamRecognizer


def run(
    bundle: Annotated[Path, typer.Argument(help="The bundle, a folder or a zip.")],
    source: Annotated[str, typer.Argument(help="A file, camera:0, rtsp://..., or test://?duration=5.")],
    variant: Annotated[
        str | None, typer.Option(help="One of the bundle's; by default the bundle's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or tensorrt.")] = "auto",
    allow_fallback: Annotated[bool, typer.Option(help="Run on the CPU if the device is missing.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of a branch; one per core.")] = None,
    price: Annotated[float | None, typer.Option(help="Score an option must earn per ms it costs.")] = None,
    fixed: Annotated[str | None, typer.Option(help="Run this option only.")] = None,
    every: Annotated[int, typer.Option(help="With --fixed: at each n-th step.")] = 1,
    partial: Annotated[bool, typer.Option(help="Run without what a missing low plane brings.")] = False,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, nothing else.")] = False,
    meter: Annotated[
        str | None,
        typer.Option(
            help="Measure energy: auto, a meter of adaptive-inspect --power, or modelled:IDLE_W,BUSY_W."
        ),
    ] = None,
    save_video: Annotated[Path | None, typer.Option(help="Write the annotated steps to this mp4.")] = None,
    version: Version = False,
) -> None:
    """Recognise SOURCE with BUNDLE, running at each step only what is worth its cost."""
    with ExitStack() as devices:
        opened = devices.enter_context(open_meter(meter)) if meter is not None else None
        recognizer = devices.enter_context(
            StreamRecognizer(
                bundle,
                device,
                variant=variant,
                price=price,
                fixed=fixed,
                every=every,
                threads=threads,
                allow_fallback=allow_fallback,
                partial=partial,
                meter=opened,
            )
        )
        if recognizer.missing:
            print_missing(recognizer.missing, recognizer.options)
        with ExitStack() as stack:
            video = (
                stack.enter_context(AnnotatedVideo(save_video, recognizer.rate_hz)) if save_video else None
            )
            pairs = stack.enter_context(closing(recognizer.stream_with_frames(source)))
            show = stack.enter_context(display(as_json, recognizer.stats))
            # Ctrl-C is the usual way to end a live stream; the summary still comes.
            stack.enter_context(suppress(KeyboardInterrupt))
            for frame, recognition in islice(pairs, max_steps):
                show(recognition)
                if video is not None:
                    video.add(frame, recognition)
        print_summary(recognizer.stats(), as_json)


def main() -> None:
    """Entry point."""
    run_command(run)
