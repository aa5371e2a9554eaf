"""The report's part on operating points: what was offered, why, and what it came to."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from compiler.operating_points.evaluating import Evaluation
from compiler.operating_points.summary import budget_lines
from compiler.report.tables import table
from runtimes.spec import Interval, OperatingPoint


def points_part(evaluations: Sequence[Evaluation]) -> list[str]:
    """The part as HTML; nothing where there are no points."""
    if not evaluations:
        return []
    parts = ["<h2>Operating points</h2>", _explanation(evaluations[0]), _plot(evaluations)]
    for one in evaluations:
        parts += [
            f"<h3>{html.escape(one.front.variant)}</h3>",
            "".join(f"<p>{html.escape(line)}</p>" for line in budget_lines(one)),
            _points_table(one),
        ]
    return parts


def _explanation(evaluation: Evaluation) -> str:
    front = evaluation.front
    return (
        f"<p>Chosen on {html.escape(front.judged_on)}. A point is a schedule of looks at a clip, a schedule "
        "that stops when it is sure, or the learned policy at a price. The last two are offered only where a "
        "paired test shows them better than schedules at their full cost (one-sided 95 % bound, bootstrap "
        "over groups, all candidates together), or as a cheaper twin of a schedule. Between two points time "
        f"is shared. Chosen on one half of these clips, the front loses {front.optimism:.1%} of the true "
        "class's probability on the other: so much of it is luck.</p>"
    )


def _points_table(evaluation: Evaluation) -> str:
    dense = float(evaluation.dense.cost.mean())
    rows = [
        (
            point.name + (" (default)" if point.name == evaluation.front.default else ""),
            _kind(point),
            _interval(point.accuracy),
            _interval(point.true_probability),
            f"{outcome.right.mean():.1%}",
            f"{outcome.cost.mean():.3f}",
            f"{outcome.cost.mean() / dense:.0%}",
        )
        for point, outcome in zip(evaluation.front.points, evaluation.points, strict=True)
    ]
    for name, outcome in (
        (f"dense: {evaluation.dense.name}", evaluation.dense),
        ("control: dense, stopped by an oracle", evaluation.oracle_stop),
        ("control: dense, stopped at random", evaluation.random_stop),
    ):
        cost = float(outcome.cost.mean())
        rows.append((name, "", "", "", f"{outcome.right.mean():.1%}", f"{cost:.3f}", f"{cost / dense:.0%}"))
    head = (
        "point",
        "kind",
        "right, out of fold",
        "probability of the true class",
        "right, validation",
        f"{evaluation.unit} a clip",
        "of dense",
    )
    return table(head, rows)


def _kind(point: OperatingPoint) -> str:
    return point.kind if point.admitted_as is None else f"{point.kind} ({point.admitted_as})"


def _interval(value: Interval) -> str:
    return f"{value.mean:.1%} ({value.low:.1%} to {value.high:.1%})"


def _plot(evaluations: Sequence[Evaluation]) -> str:
    """Every schedule, the offered front and dense on validation clips: a panel a variant, as inline SVG."""
    figure = Figure(figsize=(5.2 * len(evaluations), 4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(evaluations)))
    for panel, one in zip(panels, evaluations, strict=True):
        schedules = [(float(s.cost.mean()), float(s.right.mean())) for s in one.schedules]
        panel.plot(*zip(*schedules, strict=True), ".", color="#bbb", label="schedules")
        offered = [(float(p.cost.mean()), float(p.right.mean())) for p in one.points]
        panel.plot(*zip(*offered, strict=True), "o-", color="#2980b9", label="offered")
        panel.plot(one.dense.cost.mean(), one.dense.right.mean(), "*", color="#c0392b", ms=14, label="dense")
        panel.set(
            xscale="log", xlabel=f"{one.unit} a clip", ylabel="accuracy, validation", title=one.front.variant
        )
        panel.legend(fontsize=8)
        panel.grid(alpha=0.3)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue().partition("?>")[2].partition('.dtd">')[2]
