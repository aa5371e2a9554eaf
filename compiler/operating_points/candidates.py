"""Every way to run a variant that could be offered, with what it came to on every clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compiler.operating_points.answers import Answers, Floats, LearnedAnswers
from compiler.operating_points.fit_fusion import fit_temperature, tempered
from compiler.operating_points.plans import Course, LookPlan, escalations, follow, schedules
from compiler.operating_points.stopping import fit_rules, stopped_after
from runtimes.spec import LookFusion, StopRule

PRICES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Prices of stop rules: probability of the true class that a whole plan must be worth."""
_FOLDS = 5
_NO_COST = 1e-12


@dataclass(frozen=True)
class Candidate:
    """One way to run, on every clip.

    ``true_probability``, ``best`` (the class answered), ``right``, ``cost`` (clips,); ``runs`` (clips,
    parts). ``plan``: of one that looks; ``rule``: of one that may stop. ``price``: of the learned policy.
    ``temperature``: by which its scores were calibrated.
    """

    name: str
    kind: Literal["schedule", "stopping", "learned"]
    true_probability: Floats
    best: NDArray[np.int64]
    right: NDArray[np.bool_]
    cost: Floats
    runs: Floats
    plan: LookPlan | None = None
    rule: StopRule | None = None
    price: float | None = None
    temperature: float | None = None


def schedule_candidates(answers: Answers, fusion: LookFusion, part_costs: Floats) -> list[Candidate]:
    """Every schedule; ``part_costs`` (parts,) of one run each."""
    return [
        of_scores(
            plan.name, "schedule", answers, course.scores[:, -1], course.runs[:, -1], part_costs, plan=plan
        )
        for plan in schedules(answers)
        for course in [follow(answers, fusion, plan)]
    ]


def stopping_candidates(
    answers: Answers, fusion: LookFusion, part_costs: Floats, order: Sequence[str]
) -> list[Candidate]:
    """Plans with a stop rule at every price. Each clip is judged by a rule that its group had no part in."""
    found: list[Candidate] = []
    folds = group_folds(answers.groups, _FOLDS)
    for plan in escalations(answers, list(order)):
        course = follow(answers, fusion, plan)
        exits = np.zeros((len(PRICES), len(answers)), np.int64)
        for fold in sorted(set(folds.tolist())):
            rules = _rules(answers, course, part_costs, folds != fold)
            for place, rule in enumerate(rules):
                exits[place, folds == fold] = stopped_after(rule, course.scores[folds == fold])
        everything = np.ones(len(answers), np.bool_)
        rows = np.arange(len(answers))
        for price, rule, left in zip(
            PRICES, _rules(answers, course, part_costs, everything), exits, strict=True
        ):
            scores, runs = course.scores[rows, left], course.runs[rows, left]
            name = f"{plan.name}, stop at {price:g}"
            found.append(of_scores(name, "stopping", answers, scores, runs, part_costs, plan=plan, rule=rule))
    return found


def learned_candidates(answers: Answers, part_costs: Floats) -> list[Candidate]:
    """The policy at every price that it was tried at."""
    return [of_learned(answers, one, part_costs) for one in answers.learned]


def of_learned(
    answers: Answers, learned: LearnedAnswers, part_costs: Floats, temperature: float | None = None
) -> Candidate:
    """The policy at a price; ``temperature`` as for ``of_scores``."""
    return of_scores(
        f"policy at {learned.price:g}",
        "learned",
        answers,
        learned.scores,
        learned.runs,
        part_costs,
        price=learned.price,
        temperature=temperature,
    )


def group_folds(groups: Sequence[str], count: int) -> NDArray[np.int64]:
    """A fold for each clip: groups are not parted, and folds have about as many clips each."""
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    filled = [0] * count
    fold_of: dict[str, int] = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], name)):
        fold = filled.index(min(filled))
        fold_of[group] = fold
        filled[fold] += sizes[group]
    return np.array([fold_of[group] for group in groups], np.int64)


def _as_kept(values: Floats) -> Floats:
    return values.astype(np.float32).astype(np.float64)


def _rules(answers: Answers, course: Course, part_costs: Floats, clips: NDArray[np.bool_]) -> list[StopRule]:
    costs = course.runs[clips] @ part_costs
    relative = costs / max(float(costs[:, -1].mean()), _NO_COST)
    targets = answers.targets[clips]
    true = np.take_along_axis(course.scores[clips], targets[:, None, None], axis=2)[..., 0]
    return fit_rules(course.scores[clips], true, relative, PRICES)


def of_scores(
    name: str,
    kind: Literal["schedule", "stopping", "learned"],
    answers: Answers,
    scores: Floats,
    runs: Floats,
    part_costs: Floats,
    *,
    plan: LookPlan | None = None,
    rule: StopRule | None = None,
    price: float | None = None,
    temperature: float | None = None,
) -> Candidate:
    """The candidate whose final ``scores`` (clips, classes) and ``runs`` (clips, parts) are these.

    ``temperature``: by which its scores are calibrated; None fits it. Otherwise what is too sure of itself
    would look better than it is.
    """
    best = scores.argmax(axis=1)
    if temperature is None:
        temperature = fit_temperature(scores, answers.targets)
    calibrated = tempered(scores, temperature)
    # To the precision that evidence is kept in, so that it decides the same again.
    true = _as_kept(calibrated[np.arange(len(answers)), answers.targets])
    cost = _as_kept(runs @ part_costs)
    right = best == answers.targets
    return Candidate(name, kind, true, best, right, cost, runs, plan, rule, price, temperature)
