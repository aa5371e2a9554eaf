"""``adaptive-run``: recognize a file, camera or stream, and show what is chosen and what it costs."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from runtimes.errors import ArgumentError
from sdk.budget.budget import Budget
from sdk.cli.command import Version, run_command
from sdk.cli.control import ControlFile
from sdk.cli.display import display, print_missing, print_summary
from sdk.cli.outputs import check_outputs
from sdk.cli.replaying import replay_log
from sdk.decisions.watch import Watch
from sdk.errors import redact
from sdk.media.frames import Frame
from sdk.media.sources.addresses import parse_address
from sdk.power import open_meter
from sdk.recognizer import StreamRecognizer
from sdk.recording.decision_log import DecisionLog
from sdk.results import Recognition
from sdk.sinks.annotated_video import AnnotatedVideo
from sdk.sinks.plot import PowerPlot

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:")


def run(
    bundle: Annotated[str | None, typer.Argument(help="The bundle, a folder or a zip.")] = None,
    source: Annotated[
        str | None, typer.Argument(help="A file, camera:0, rtsp://..., or test://?duration=5.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="One of the bundle's; by default the bundle's own.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Run the graphs of this one of the bundle's targets, in its runtime.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, tensorrt or gpu.")] = "auto",
    allow_fallback: Annotated[bool, typer.Option(help="Run on the CPU if the device is missing.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of a branch; one per core.")] = None,
    price: Annotated[
        float | None,
        typer.Option(help="Probability of the right answer that all of the dense cost must be worth."),
    ] = None,
    point: Annotated[
        str | None, typer.Option(help="Run this operating point; adaptive-inspect lists them.")
    ] = None,
    cost_share: Annotated[
        float | None,
        typer.Option(help="Mean cost as a share of the dense cost, e.g. 0.25; points take turns."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Sleep while picture and sound stay as they are.")
    ] = False,
    fixed: Annotated[str | None, typer.Option(help="Run this option only.")] = None,
    every: Annotated[int, typer.Option(help="With --fixed: at each n-th step.")] = 1,
    partial: Annotated[bool, typer.Option(help="Run without what a missing low plane brings.")] = False,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, nothing else.")] = False,
    meter: Annotated[
        str | None,
        typer.Option(
            help="Measure energy: auto, a meter of adaptive-inspect --power, or modeled:IDLE_W[,MORE_W], "
            "a model: so much idle, so much more while busy."
        ),
    ] = None,
    power_budget: Annotated[
        str | None,
        typer.Option(
            help="Keep the average power below this, e.g. 5W or 800mW. Under any budget, and with --control, "
            "a file runs at its own pace."
        ),
    ] = None,
    latency_budget: Annotated[
        str | None, typer.Option(help="Keep 95 % of the steps below this, e.g. 20ms.")
    ] = None,
    thermal_budget: Annotated[str | None, typer.Option(help="Keep the device below this, e.g. 70C.")] = None,
    battery_budget: Annotated[
        str | None, typer.Option(help="Let the battery last this long, e.g. 3h or 90min.")
    ] = None,
    control: Annotated[
        Path | None, typer.Option(help="A file that says the budget while it runs: 5W, or 3W,20ms, or off.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw power, budget, points and choices over time, e.g. power.png.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="Write every decision, and all it depended on, to this .jsonl.")
    ] = None,
    replayed: Annotated[
        Path | None, typer.Option("--replay", help="Make the choices of such a log again, and compare.")
    ] = None,
    save_video: Annotated[Path | None, typer.Option(help="Write the annotated steps to this mp4.")] = None,
    version: Version = False,
) -> int:
    """Recognize SOURCE with BUNDLE, running at each step only what is worth its cost."""
    budgets = (power_budget, latency_budget, thermal_budget, battery_budget)
    if replayed is not None:
        _require_nothing_beside_replay(bundle, source, log, plot, save_video, control, *budgets)
        return replay_log(replayed)
    bundle, source = _require_both(bundle, source)
    budget = _budget(*budgets)
    read = {"BUNDLE": bundle, "SOURCE": source} | ({} if control is None else {"--control": str(control)})
    check_outputs(log, plot, save_video, read)
    with ExitStack() as opened:
        if meter is None and _needs_meter(budget):
            meter = "auto"
        decisions = DecisionLog(log, {"bundle": str(bundle), "source": source}) if log else None
        recognizer = opened.enter_context(
            StreamRecognizer(
                bundle,
                device,
                target=target,
                variant=variant,
                price=price,
                point=point,
                cost_share=cost_share,
                watch=Watch() if watch else None,
                fixed=fixed,
                every=every,
                threads=threads,
                allow_fallback=allow_fallback,
                partial=partial,
                meter=opened.enter_context(open_meter(meter)) if meter is not None else None,
                budget=budget,
                log=opened.enter_context(decisions) if decisions is not None else None,
            )
        )
        if recognizer.missing:
            print_missing(recognizer.missing, recognizer.options)
        with ExitStack() as stack:
            show = stack.enter_context(display(as_json, recognizer.stats))
            takers: list[Callable[[Frame, Recognition], None]] = [lambda _, recognition: show(recognition)]
            if save_video is not None:
                takers.append(stack.enter_context(AnnotatedVideo(save_video, recognizer.rate_hz)).write_frame)
            if plot is not None:
                drawn = stack.enter_context(PowerPlot(plot))
                takers.append(lambda _, recognition: drawn.add_point(recognition, recognizer.budget))
            if control is not None:
                said = ControlFile(control, lambda changed: setattr(recognizer, "budget", changed))
                said.poll()
                takers.append(lambda *_: said.poll())
            pace = {} if control is None else {"own_pace": True}
            pairs = stack.enter_context(closing(recognizer.stream_with_frames(source, **pace)))
            # Ctrl-C is the usual way to end a live stream; the summary still comes.
            stack.enter_context(suppress(KeyboardInterrupt))
            for frame, recognition in islice(pairs, max_steps):
                for take in takers:
                    take(frame, recognition)
        print_summary(recognizer.stats(), as_json)
    return 0


def _require_nothing_beside_replay(*given: object) -> None:
    """Raises: ArgumentError if anything is given that a replay would not look at."""
    if any(value is not None for value in given):
        reason = "takes no BUNDLE, SOURCE, output or budget: the log has all that it needs"
        raise ArgumentError("--replay", reason, "leave them out")


def _require_both(bundle: str | None, source: str | None) -> tuple[str, str]:
    """The bundle and the source. Raises: ArgumentError if one is missing or they are swapped; SourceError."""
    if bundle is None:
        raise ArgumentError("BUNDLE and SOURCE", "are missing", "give both, or --replay LOG")
    if _ADDRESS.match(bundle) and not Path(bundle).exists():
        raise ArgumentError(redact(bundle), "is a source, not a bundle", "give BUNDLE first, then SOURCE")
    if source is None:
        raise ArgumentError(
            "SOURCE", "is missing", "give a file, camera:0, rtsp://... or test:// after BUNDLE"
        )
    parse_address(source)
    return bundle, source


def _needs_meter(budget: Budget | None) -> bool:
    limits = () if budget is None else (budget.watts, budget.thermal_c, budget.battery_hours)
    return any(limit is not None for limit in limits)


def _budget(*parts: str | None) -> Budget | None:
    """The budget that the four options say together. Raises: BudgetError."""
    names = ("watts", "latency_ms", "thermal_c", "battery_hours")
    given = {name: text for name, text in zip(names, parts, strict=True) if text is not None}
    if not given:
        return None
    values = {}
    for name, text in given.items():
        values[name] = getattr(Budget.parse(text), name)
        if values[name] is None:
            option = {"watts": "--power-budget", "latency_ms": "--latency-budget"}
            option |= {"thermal_c": "--thermal-budget", "battery_hours": "--battery-budget"}
            fix = "give 5W, 20ms, 70C and 3h each to its own option"
            raise ArgumentError(f"{option[name]} {text}", "is of another kind", fix)
    return Budget(**values)


def main() -> None:
    """Entry point."""
    # Service managers end a program by SIGTERM: as Ctrl-C does, with the summary.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_command(run)
