"""What a front is worth, in words for someone who has not met the terms."""

from __future__ import annotations

from compiler.operating_points.evaluating import SHARES, Evaluation

_ROOM = 0.85
_POOR = 0.6


def verdict_line(model: str, evaluation: Evaluation) -> str:
    """Whether the front is ahead of, level with or behind fixed schedules: the first line of a report."""
    compared, clips = evaluation.comparison, len(evaluation.answers)
    how = {"ahead": "ahead of", "level": "level with", "behind": "behind"}[compared.word]
    return (
        f"{model} {evaluation.front.variant} is {how} the best fixed schedules over all budgets: "
        f"{compared.difference:+.1%} right (95 % interval {compared.low:+.1%} to {compared.high:+.1%}) "
        f"on {clips} clips that nothing was chosen on."
    )


def budget_lines(evaluation: Evaluation) -> list[str]:
    """What dense costs, what budgets below it buy, what guessing would give, and what to try next."""
    dense, unit, front = evaluation.dense, evaluation.unit, evaluation.front
    classes = evaluation.answers.logits.shape[-1]
    full = float(dense.cost.mean())
    lines = [
        f"without adaptivity ({dense.name}): {dense.right.mean():.1%} right at {full:.2f} {unit} a clip; "
        f"guessing: {1 / classes:.1%}"
    ]
    bought = []
    for share in SHARES[1:]:
        found = evaluation.bought(share * full)
        if found is not None:
            names = " and ".join(found.points) + (" in turn" if len(found.points) > 1 else "")
            bought.append(f"{share:.0%} of that buys {found.accuracy:.1%} ({names})")
    if bought:
        lines.append("; ".join(bought))
    default = next(one for one in evaluation.points if one.name == front.default)
    lines.append(
        f"by default: {default.name}, {default.right.mean():.1%} right at {default.cost.mean():.2f} {unit} a "
        f"clip ({default.cost.mean() / full:.0%}); chosen on {front.judged_on}"
    )
    return [*lines, *_next_steps(evaluation)]


def _next_steps(evaluation: Evaluation) -> list[str]:
    dense, front = evaluation.dense, evaluation.front
    stops = any(point.kind == "stopping" for point in front.points)
    found = []
    if float(dense.right.mean()) < _POOR:
        found.append(
            "to try next: more clips, or --init with pretrained weights: dense itself is often wrong"
        )
    room = float(evaluation.oracle_stop.cost.mean() / dense.cost.mean())
    if room < _ROOM and not stops:
        found.append(
            f"to try next: more clips: stopping when sure could save up to {1 - room:.0%} of the dense cost, "
            "but no stop rule was proven on these"
        )
    if not any(point.kind == "learned" for point in front.points) and evaluation.answers.learned:
        found.append("the learned policy is not offered: at its cost it was not proven better than schedules")
    return found
