"""A bundle's accuracy in each of its runtimes: every variant as it chooses, and every option at each step.

    python -m benchmarks.runtime_accuracy BUNDLE [--data DIR] [--clips 200] [--name NAME]

Validation clips as streamed, one thread, in each target that the bundle has. Choices go by the bundle's own
cost table, so that what differs is what the runtimes compute. Accuracy is of each clip's last answer, beside
that of the bundle's own target; a precision that this one does not have (LiteRT's fp16) is held against its
fp32. Written to ``benchmarks/results/runtime-accuracy-<model>-<data>.json`` (or ``-NAME``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.record import write
from benchmarks.validation import validation_clips
from compiler.data.clips import Clip
from runtimes.bundle import Bundle
from runtimes.spec import Variant
from sdk.recognizer import StreamRecognizer


class Way(NamedTuple):
    """A variant, and one option of it at every step; or its own choice."""

    variant: str
    option: str | None

    def __str__(self) -> str:
        return f"{self.variant}: {self.option or 'its choice'}"


class Answers(NamedTuple):
    """By clip: the last label, and what was chosen at every step."""

    labels: list[str]
    choices: list[list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--name")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    clips = validation_clips(arguments.data, bundle, arguments.clips)
    truth = [clip.label for clip in clips]
    own = bundle.manifest.target
    said: dict[tuple[str, Way], Answers] = {}
    rows: list[dict[str, Any]] = []
    for target in bundle.manifest.targets:
        for way in _ways(bundle, target):
            answers = said[target, way] = _answers(bundle, target, way, clips)
            reference = said.get((own, way)) or said[own, Way("fp32", way.option)]
            rows.append(_row(target, way, answers, reference, truth))
            print(_line(rows[-1]), flush=True)
    data = arguments.data.name if arguments.data else "built-in"
    name = arguments.name or f"{bundle.manifest.model}-{data}"
    fields = {"model": bundle.manifest.model, "own": own, "clips": len(clips), "rows": rows}
    print(write(f"runtime-accuracy-{name}", fields))


def _ways(bundle: Bundle, target: str) -> list[Way]:
    graphs = {graph.name for graph in bundle.manifest.graphs_of(target)}
    there = [variant for variant in bundle.manifest.variants if variant.graphs <= graphs]
    return [way for variant in there for way in _ways_of(variant)]


def _ways_of(variant: Variant) -> list[Way]:
    own = [None] if variant.policy is not None else []
    options = [option.name for option in variant.action_space.options if not option.skip]
    return [Way(variant.name, option) for option in (*own, *options)]


def _answers(bundle: Bundle, target: str, way: Way, clips: Sequence[Clip]) -> Answers:
    answers = Answers([], [])
    with StreamRecognizer(
        bundle, "cpu", target=target, variant=way.variant, fixed=way.option, threads=1
    ) as recognizer:
        for clip in clips:
            steps = recognizer.recognize(str(clip.path)).recognitions
            answers.labels.append(steps[-1].label)
            answers.choices.append([step.choice for step in steps])
    return answers


def _row(target: str, way: Way, answers: Answers, own: Answers, truth: Sequence[str]) -> dict[str, Any]:
    right, own_right = (np.array(a.labels) == np.array(truth) for a in (answers, own))
    pairs = [
        (one, other)
        for mine, theirs in zip(answers.choices, own.choices, strict=True)
        for one, other in zip(mine, theirs, strict=True)
    ]
    return {
        "target": target,
        "variant": way.variant,
        "option": way.option,
        "accuracy": float(right.mean()),
        "points from own": 100 * float(right.mean() - own_right.mean()),
        "same labels": float(np.mean([a == b for a, b in zip(answers.labels, own.labels, strict=True)])),
        "same choices": float(np.mean([one == other for one, other in pairs])),
    }


def _line(row: dict[str, Any]) -> str:
    way = Way(row["variant"], row["option"])
    return (
        f"{row['target']:12} {way!s:28} {row['accuracy']:.1%} ({row['points from own']:+.1f} points), "
        f"labels {row['same labels']:.1%} and choices {row['same choices']:.1%} the same"
    )


if __name__ == "__main__":
    main()
