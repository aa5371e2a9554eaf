"""Running a bundle's graphs over clips, for the answers that operating points are chosen by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from compiler.measuring.evaluation import Evaluator, branch_sets
from compiler.operating_points.answers import Answers, Floats, LearnedAnswers
from runtimes.spec import CostTable, Option, Variant
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.option_costs import option_costs

LEARNED_PRICES = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Prices at which the policy is tried."""


def gather(
    evaluator: Evaluator,
    table: CostTable,
    progress: Callable[[int, int], None],
    prices: Sequence[float] = LEARNED_PRICES,
) -> Answers:
    """Every look's answer at every step of the evaluator's clips, and the policy's at some prices.

    ``table``: costs that the policy's choice goes by.
    """
    variant, cache, clips = evaluator.variant, evaluator.cache, evaluator.clips
    sets = branch_sets(variant)
    parts = part_names(variant)
    steps = np.array([cache.steps(clip) for clip in clips])
    classes = len(evaluator.manifest.labels)
    logits = np.zeros((len(clips), len(sets), int(steps.max()), classes), np.float32)
    ran = np.full(logits.shape[:3], -1, np.int16)
    place = {tuple(option.name for option in options): number for number, options in enumerate(sets)}
    for row, clip in enumerate(clips):
        for look, options in enumerate(sets):
            for step in range(int(steps[row])):
                absent = evaluator.absent_views(clip, step)
                there = tuple(option for option in options if option.view not in absent)
                if there:
                    ran[row, look, step] = place[tuple(option.name for option in there)]
                    logits[row, look, step] = evaluator.fused_at(there, clip, step)
        progress(row + 1, len(clips))
    entries = [cache.clips[clip] for clip in clips]
    return Answers(
        tuple("+".join(option.name for option in options) for options in sets),
        parts,
        np.stack([look_runs(variant, options, parts) for options in sets]),
        logits,
        ran,
        steps,
        np.array([evaluator.manifest.labels.index(entry.label) for entry in entries]),
        tuple(entry.group or entry.path.name for entry in entries),
        _learned(evaluator, table, parts, prices) if variant.policy is not None else (),
    )


def part_names(variant: Variant) -> tuple[str, ...]:
    """The graphs (``graph@view``) and views of a variant, whose runs are counted."""
    policy = variant.policy
    options = [option for option in variant.action_space.options if option.graph and option.view]
    graphs = [f"{policy.graph}@{policy.views[0]}"] if policy else []
    graphs += [f"{option.graph}@{option.view}" for option in options if not variant.is_head(option)]
    views = [*(policy.views if policy else ()), *(str(option.view) for option in options)]
    return tuple(dict.fromkeys([*graphs, *views]))


def look_runs(
    variant: Variant, options: Sequence[Option], parts: Sequence[str], *, with_policy: bool = False
) -> Floats:
    """Runs (parts,) of a step that runs these: the policy too if it was run, or one is its own head."""
    runs = np.zeros(len(parts))
    views: dict[str, None] = {}
    policy = variant.policy
    if policy is not None and (with_policy or any(variant.is_head(option) for option in options)):
        runs[parts.index(f"{policy.graph}@{policy.views[0]}")] += 1
        views |= dict.fromkeys(policy.views)
    for option in options:
        if option.graph and option.view and not variant.is_head(option):
            runs[parts.index(f"{option.graph}@{option.view}")] += 1
            views[option.view] = None
    for view in views:
        runs[parts.index(view)] += 1
    return runs


def part_costs(parts: Sequence[str], table: CostTable) -> tuple[Floats, Floats | None]:
    """Of one run of each part, by a device's table: ms (parts,), and mJ if all were measured.

    Raises: KeyError if the table lacks one.
    """
    ms, mj = [], []
    for part in parts:
        graph, at, view = part.partition("@")
        ms.append(table.run_ms(graph, view) if at else table.view_ms(part))
        mj.append(table.run_mj(graph, view) if at else table.view_mj(part))
    measured = [value for value in mj if value is not None]
    return np.array(ms), np.array(measured) if len(measured) == len(mj) else None


def _learned(
    evaluator: Evaluator, table: CostTable, parts: Sequence[str], prices: Sequence[float]
) -> tuple[LearnedAnswers, ...]:
    variant = evaluator.variant
    costs = option_costs(variant, table)
    found = []
    for price in prices:
        chooser = LearnedChoice(variant.action_space, costs, price)
        scores, runs = [], []
        for clip in evaluator.clips:
            chooser.reset()
            steps = evaluator.roll_out(clip, chooser)
            scores.append(steps[-1].scores)
            decided = [step.decision for step in steps if not step.decision.held]
            spent = [look_runs(variant, one.options, parts, with_policy=True) for one in decided]
            runs.append(np.sum(spent, axis=0))
        found.append(LearnedAnswers(price, np.stack(scores), np.stack(runs)))
    return tuple(found)
