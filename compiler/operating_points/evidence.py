"""What an admission was decided by, kept in the bundle so that anyone may decide again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compiler.gate import Gate
from compiler.operating_points.admission import Admission, judge
from compiler.operating_points.candidates import Candidate
from compiler.operating_points.choosing import Judged
from compiler.operating_points.plans import LookPlan

FOLDER = "evidence"


def save_evidence(judged: Judged, folder: Path) -> Path:
    """Every schedule and every other candidate, clip by clip, as ``evidence/<variant>.npz``."""
    file = folder / FOLDER / f"{judged.front.variant}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = [*judged.schedules, *judged.others]
    np.savez_compressed(
        file,
        allow_pickle=False,
        names=np.array([one.name for one in kept]),
        kinds=np.array([one.kind for one in kept]),
        looks=np.array(["\n".join(one.plan.looks) if one.plan else "" for one in kept]),
        true_probability=np.stack([one.true_probability for one in kept]).astype(np.float32),
        best=np.stack([one.best for one in kept]).astype(np.int16),
        right=np.stack([one.right for one in kept]),
        cost=np.stack([one.cost for one in kept]).astype(np.float32),
        groups=np.array(judged.groups),
    )
    return file


def evidence_gate(judged: Judged, file: Path) -> Gate:
    """Whether what is stored admits what is offered."""
    again = judge_again(file)
    offered = [point for point in judged.front.points if point.kind != "schedule"]
    wrong = [point.name for point in offered if again[point.name].reason != point.admitted_as]
    saw = f"{len(offered)} points beside schedules, of {len(again)} that were tried"
    saw = f"not so: {', '.join(wrong)}" if wrong else saw
    return Gate(f"{judged.front.variant}: stored evidence admits what is offered", saw, not wrong)


def judge_again(file: Path) -> dict[str, Admission]:
    """The admission of every candidate that is no schedule, by name, from what is stored.

    Raises: OSError, ValueError.
    """
    with np.load(file, allow_pickle=False) as kept:
        groups = tuple(map(str, kept["groups"]))
        candidates = [
            Candidate(
                str(name),
                str(kind),  # type: ignore[arg-type]
                kept["true_probability"][place].astype(np.float64),
                kept["best"][place].astype(np.int64),
                kept["right"][place],
                kept["cost"][place].astype(np.float64),
                np.zeros((len(groups), 0)),
                LookPlan(tuple(str(looks).split("\n"))) if str(looks) else None,
            )
            for place, (name, kind, looks) in enumerate(
                zip(kept["names"], kept["kinds"], kept["looks"], strict=True)
            )
        ]
    schedules = [one for one in candidates if one.kind == "schedule"]
    others = [one for one in candidates if one.kind != "schedule"]
    return {one.name: how for one, how in zip(others, judge(others, schedules, groups), strict=True)}
