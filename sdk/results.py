"""What a recognizer gives back: plain frozen values."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from runtimes.notebook import html_table
from runtimes.words import counted

HELD = "held"
"""The choice of a step that an earlier skip holds."""
ASLEEP = "asleep"
"""The choice of a step at which a watch saw nothing to look at."""
THROTTLED = "throttled"
"""The choice of a step at which the budget allows nothing to run."""
NOTHING = "nothing"
"""The choice of a step at which nothing that could be chosen was there."""

RAN = "ran"
NOT_CHOSEN = "not chosen"
ABSENT = "absent"
FAILED = "failed"
LATE = "late"


@dataclass(frozen=True, slots=True)
class Latency:
    """Where a step's time went, in ms; 0 for a stage that was not run.

    queue: from the frame's arrival until it was taken up; decode: the source's frames up to this one; resize,
    policy, branch: what was chosen to run; post: choice, fusion and result; total: all of them but the queue.
    """

    queue: float
    decode: float
    resize: float
    policy: float
    branch: float
    post: float
    total: float


@dataclass(frozen=True, slots=True, repr=False)
class Recognition:
    """The stream's answer at one step.

    ``time_s`` is stream time, which starts near 0 and never runs backwards (of an app's own frames: the time
    that it gave); ``source_time_s`` the source's own timestamp.

    ``label`` and ``score`` are the fusion's over the stream so far, ``top`` its best classes. ``choice``
    names what was chosen to run (several groups joined by ``+``), a skip, ``held`` or ``asleep``;
    ``precision`` is that of what ran, None for nothing. ``dropped`` counts source frames lost since the step
    before; ``restarted`` says that the source broke off and memory began anew. ``modalities`` says of each
    group of options (a modality each, where a bundle has several; else there is one group) that it ``ran``,
    or why not: ``not chosen``, ``held``, ``asleep``, ``late``, ``absent: <reason>`` or ``failed: <reason>``.

    ``energy_mj`` is what the whole device used since the step before (of the first: since the stream began),
    by the meter that ``energy_source`` names; None where that is not known (``energy_problem`` says why), or
    no meter was given. ``price``: at which it was chosen; ``point``: the operating point that ran, None for a
    bundle without them and where something fixed runs. Under a budget: ``power_w`` is the
    average power since the budget was set, of the last 30 s at most; ``budget_met``: whether the budget holds
    without steps throttled for it, None where that is not known, and ``budget_problem`` why not;
    ``predicted_mj``: what was expected of ``energy_mj``.

    A stream that has had no output yet, because nothing to run was there, has the label ``""`` and no score.
    """

    time_s: float
    step: int
    label: str
    score: float
    top: tuple[tuple[str, float], ...]
    choice: str
    precision: str | None
    latency_ms: Latency
    dropped: int
    restarted: bool
    modalities: Mapping[str, str] = field(default_factory=dict)
    energy_mj: float | None = None
    energy_source: str | None = None
    energy_problem: str | None = None
    price: float = 0.0
    point: str | None = None
    power_w: float | None = None
    budget_met: bool | None = None
    budget_problem: str | None = None
    predicted_mj: float | None = None
    source_time_s: float | None = None

    def __repr__(self) -> str:
        return (
            f"<Recognition step {self.step} at {self.time_s:.2f} s: {self.label!r} {self.score:.2f}, "
            f"{self.choice}, {self.latency_ms.total:.1f} ms>"
        )

    def _repr_html_(self) -> str:
        known = self.energy_mj is not None
        energy = f"{self.energy_mj:.1f} mJ ({self.energy_source})" if known else None
        return html_table(
            {
                "step": f"{self.step} at {self.time_s:.2f} s",
                "best": _best(self.top),
                "choice": self.choice,
                "latency": f"{self.latency_ms.total:.1f} ms",
                "energy": energy,
                "power": None if self.power_w is None else f"{self.power_w:.2f} W",
            }
        )

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)


def _best(top: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{label} {score:.2f}" for label, score in top)


@dataclass(frozen=True, slots=True, repr=False)
class ClipRecognition:
    """The answer to a whole clip: the fusion's at its last step, and how it came about.

    ``choices`` counts the steps by choice; ``latency_ms`` is the sum over the steps, and ``energy_mj`` too:
    None if that of any step is not known.
    """

    path: str
    label: str
    score: float
    top: tuple[tuple[str, float], ...]
    steps: int
    choices: dict[str, int]
    latency_ms: Latency
    recognitions: tuple[Recognition, ...]
    energy_mj: float | None = None

    @classmethod
    def of(cls, path: str | os.PathLike[str], recognitions: tuple[Recognition, ...]) -> ClipRecognition:
        """What the ``recognitions`` of a clip's steps, one or more, come to."""
        last = recognitions[-1]
        latencies = [entry.latency_ms for entry in recognitions]
        known = [entry.energy_mj for entry in recognitions if entry.energy_mj is not None]
        return cls(
            path=os.fspath(path),
            label=last.label,
            score=last.score,
            top=last.top,
            steps=len(recognitions),
            choices=dict(Counter(entry.choice for entry in recognitions).most_common()),
            latency_ms=Latency(
                **{
                    stage.name: sum(getattr(spent, stage.name) for spent in latencies)
                    for stage in fields(Latency)
                }
            ),
            recognitions=recognitions,
            energy_mj=sum(known) if len(known) == len(recognitions) else None,
        )

    def __repr__(self) -> str:
        choices = ", ".join(f"{choice} {count}" for choice, count in self.choices.items())
        return (
            f"<ClipRecognition {self.path!r}: {self.label!r} {self.score:.2f}, "
            f"{counted(self.steps, 'step')} ({choices}), {self.latency_ms.total:.1f} ms>"
        )

    def _repr_html_(self) -> str:
        return html_table(
            {
                "clip": self.path,
                "best": _best(self.top),
                "steps": self.steps,
                "choices": ", ".join(f"{choice} {count}" for choice, count in self.choices.items()),
                "latency": f"{self.latency_ms.total:.1f} ms",
            }
        )

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)
