"""``report.html``: what was compiled, what it is worth, and how the gates went, in one file."""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from compiler.data.cache import ClipCache
from compiler.gate import Gate
from compiler.measuring.evaluation import Outcome, static_front
from compiler.measuring.profile import Profile, Timeline, verdict
from compiler.operating_points.evaluating import Evaluation
from compiler.operating_points.summary import budget_lines, verdict_line
from compiler.quantization.pareto import CandidateCost
from compiler.report.operating_points import points_part
from compiler.report.tables import table
from runtimes.spec import CostTable, Manifest, Variant
from runtimes.words import counted

matplotlib.use("svg")

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .2rem .7rem; text-align: right }
th:first-child, td:first-child { text-align: left } tr:nth-child(even) { background: #f4f4f4 }
th { border-bottom: 1px solid #888 } .failed { color: #b00; font-weight: bold }
.timeline { display: flex; gap: 2px; overflow-x: auto } .timeline figure { margin: 0; text-align: center }
.timeline img { display: block; width: 84px; height: 84px } figcaption { font-size: 11px; padding: 1px 3px }
.verdict { font-size: 1.15rem; font-weight: 600 }
"""
_COLORS = ("#c0392b", "#e67e22", "#f1c40f", "#27ae60", "#95a5a6", "#7f8c8d", "#626e70")
_HELD = "#dfe4e6"
_KINDS = (("static", "#999", "."), ("random", "#8e44ad", "x"), ("curve", "#2980b9", "."))
"""What is drawn as points: each kind of outcome with its color and marker."""
_INT8_EQUIVALENT = (
    "int8-equivalent GMACs: billions of multiply-accumulates of a run times min(bits, 8)² / 64, the papers' "
    "law of BitOps relative to int8 (fp32 counts as int8). A model of the work, no time."
)


def verdicts(manifest: Manifest, profile: Profile, evaluations: Sequence[Evaluation] = ()) -> list[str]:
    """The first lines of the report: one verdict per variant, the default one first."""
    if evaluations:
        ranked = sorted(evaluations, key=lambda one: one.front.variant != manifest.default_variant)
        return [
            *(verdict_line(manifest.model, one) for one in ranked),
            *budget_lines(ranked[0]),
        ]
    names = sorted((v.name for v in manifest.variants), key=lambda name: name != manifest.default_variant)
    return [verdict(profile, name) for name in names]


def write_report(
    manifest: Manifest,
    profile: Profile,
    gates: Sequence[Gate],
    cache: ClipCache,
    precisions: Sequence[CandidateCost] = (),
    dropped: Sequence[str] = (),
    evaluations: Sequence[Evaluation] = (),
) -> str:
    """The report as HTML; ``precisions`` that were measured, and a line for each of the ``dropped``.

    ``evaluations``: of the variants' operating points on the validation clips.
    """
    title = f"{manifest.model} {manifest.preset} for {manifest.target}"
    first = "".join(
        f'<p class="verdict">{html.escape(line)}</p>' for line in verdicts(manifest, profile, evaluations)
    )
    body = [
        f"<h1>{html.escape(title)}</h1>{first}",
        *points_part(evaluations),
        "<h2>Fixed, random and learned choices on the validation clips</h2>",
        _plot(manifest, profile),
        "<p>Cost: resizing, policy and branches, as measured on "
        f"{html.escape(profile.costs.device)} with {counted(profile.costs.threads, 'thread')} a branch; "
        "decoding is the same for all and comes on top (see whole clips). "
        f"{html.escape(_energy_line(profile.costs))}</p>",
        _outcome_table(manifest, profile),
        "<h2>Whole clips through the SDK, decoding included</h2>",
        _end_to_end_table(profile),
        *_precision_part(precisions, dropped),
        "<h2>What was chosen</h2>",
        _histogram(manifest, profile),
        *_modality_part(manifest, profile, cache),
        *(_timeline(line, manifest, cache) for line in profile.timelines),
        "<h2>Graphs on this device</h2>",
        _graph_table(manifest, profile),
        "<h2>Gates</h2>",
        _gate_table(gates),
        "<h2>Where it comes from</h2>",
        table(("what", "value"), [(key, str(value)) for key, value in manifest.provenance.items()]),
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html><head>{head}</head><body>{''.join(body)}</body></html>\n"


def _energy_line(costs: CostTable) -> str:
    if costs.energy_source is None:
        return "Energy was not measured (adaptive-compile --meter)."
    return f"Energy: beyond the {costs.idle_w:.2f} W of the idle device; from {costs.energy_source}."


def _mj(energy_mj: float | None) -> str:
    return "" if energy_mj is None else f"{energy_mj:.2f}"


def _outcome_table(manifest: Manifest, profile: Profile) -> str:
    rows: list[tuple[str, ...]] = []
    for variant in manifest.variants:
        adaptive, dense = profile.adaptive(variant.name), profile.dense(variant.name)
        listed = [
            *([adaptive] if adaptive else []),
            dense,
            *profile.front(variant.name),
            *profile.of(variant.name, "random"),
        ]
        for outcome in listed:
            kind = "static front" if outcome.kind == "static" and outcome is not dense else outcome.kind
            share = f"{outcome.mean_ms / dense.mean_ms:.0%}"
            row = (
                outcome.name,
                variant.name,
                kind,
                f"{outcome.accuracy:.1%}",
                f"{outcome.mean_ms:.2f}",
                share,
                _mj(outcome.mean_mj),
            )
            rows.append(row)
    return table(("choice", "variant", "kind", "accuracy", "ms a clip", "of dense", "mJ a clip"), rows)


def _precision_part(precisions: Sequence[CandidateCost], dropped: Sequence[str]) -> list[str]:
    """Bits by accuracy, size, time and the papers' law of BitOps, which is no time."""
    if not precisions:
        return []
    rows = [
        (
            f"{one.branch} {one.precision}",
            str(one.bits),
            f"{one.accuracy:.1%}",
            f"{one.validation:.1%}",
            f"{one.megabytes:.2f}",
            f"{one.ms:.2f}",
            _mj(one.mj),
            f"{one.int8_equivalent_macs / 1e9:.3f}",
        )
        for one in precisions
    ]
    head = (
        "precision",
        "bits",
        "held-out accuracy",
        "validation",
        "MB",
        "ms",
        "mJ",
        "int8-equivalent GMACs",
    )
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in dropped)
    return ["<h2>Precisions tried</h2>", table(head, rows), f"<p>{_INT8_EQUIVALENT}</p>", lines]


def _end_to_end_table(profile: Profile) -> str:
    rows = [(e.name, e.variant, f"{e.p50_ms:.1f}", f"{e.p95_ms:.1f}") for e in profile.end_to_end]
    return table(("choice", "variant", "p50 ms a clip", "p95"), rows)


def _graph_table(manifest: Manifest, profile: Profile) -> str:
    rows = []
    for cost in profile.costs.graphs:
        macs = manifest.graph(cost.graph).macs.get(cost.view, 0)
        memory = "unknown" if cost.memory_mb is None else f"{cost.memory_mb:.1f}"
        if manifest.shares_files(manifest.graph(cost.graph)):
            memory = "shared"
        spent = f"{cost.p50_ms:.3f}", f"{cost.p95_ms:.3f}", _mj(cost.energy_mj)
        rows.append((cost.graph, cost.view, f"{macs / 1e6:.1f}", *spent, memory))
    rows += [
        (f"resize to {v.view}", v.view, "", f"{v.p50_ms:.3f}", f"{v.p95_ms:.3f}", _mj(v.energy_mj), "")
        for v in profile.costs.views
    ]
    return table(("graph", "view", "million MACs", "p50 ms", "p95 ms", "mJ", "memory MB"), rows)


def _gate_table(gates: Sequence[Gate]) -> str:
    return table(("gate", "saw", ""), [(g.name, g.saw, "passed" if g.passed else "FAILED") for g in gates])


def _histogram(manifest: Manifest, profile: Profile) -> str:
    rows = []
    for variant in manifest.variants:
        adaptive = profile.adaptive(variant.name)
        if adaptive is None:
            return "<p>Nothing: the app chooses.</p>"
        choices = adaptive.choices
        total = sum(choices.values())
        names = [*_choice_names(variant), "held"]
        rows.append((variant.name, *(f"{choices[name] / total:.1%}" for name in names)))
    return table(("variant", *names), rows)


def _choice_names(variant: Variant) -> list[str]:
    """Every choice of a step: an option of each group, joined as recognitions have them."""
    groups = (group.options for group in variant.action_space.groups)
    return ["+".join(option.name for option in options) for options in itertools.product(*groups)]


def _modality_part(manifest: Manifest, profile: Profile, cache: ClipCache) -> list[str]:
    """How often each of several groups ran, over all clips and by label."""
    parts = []
    for variant in manifest.variants:
        adaptive, groups = profile.adaptive(variant.name), variant.action_space.groups
        if adaptive is None or adaptive.used is None or len(groups) == 1:
            continue
        labels = np.array([cache.target(clip) for clip in cache.split("val")])
        rows = [("all", *(f"{share:.1%}" for share in adaptive.used.mean(axis=0)))]
        rows += [
            (name, *(f"{share:.1%}" for share in adaptive.used[labels == label].mean(axis=0)))
            for label, name in enumerate(manifest.labels)
            if (labels == label).any()
        ]
        head = (f"steps that used, {variant.name}", *(group.name for group in groups))
        parts.append(table(head, rows))
    return ["<h3>By modality and label</h3>", *parts] if parts else []


def _colors(manifest: Manifest) -> Mapping[str, str]:
    names = _choice_names(manifest.variants[0])
    return dict(zip(names, _COLORS, strict=False)) | {"held": _HELD}


def _timeline(timeline: Timeline, manifest: Manifest, cache: ClipCache) -> str:
    """Thumbnails of a clip's steps with the chosen option and the label so far."""
    colors = _colors(manifest)
    figures = []
    for frame, step in zip(_thumbnails(timeline, manifest, cache), timeline.steps, strict=True):
        choice = step.decision.name
        label = manifest.labels[int(step.scores.argmax())]
        caption = f"<b>{html.escape(choice)}</b><br>{html.escape(label)} {step.scores.max():.0%}"
        style = f'style="background:{colors.get(choice, "#fff")}"'
        figures.append(
            f'<figure {style}><img src="{_jpeg(frame)}"><figcaption>{caption}</figcaption></figure>'
        )
    clip = cache.clips[timeline.clip]
    title = html.escape(f"{clip.path.name} ({clip.label}), {timeline.variant}")
    return f'<h4>{title}</h4><div class="timeline">{"".join(figures)}</div>'


def _thumbnails(timeline: Timeline, manifest: Manifest, cache: ClipCache) -> NDArray[np.uint8]:
    """A picture (T, S, S, 3) of each step of a clip: the last of its segment, or its spectrogram."""
    pictures = [view for view in manifest.views if view.modality == "rgb"]
    view = min(pictures or manifest.views, key=lambda v: v.size)
    frames = cache.frames(timeline.clip, view.name)
    frames = frames[:, -1] if frames.ndim == 5 else frames
    return frames[..., :3] if frames.shape[-1] >= 3 else frames[..., :1].repeat(3, axis=-1)


def _jpeg(frame: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _plot(manifest: Manifest, profile: Profile) -> str:
    """Accuracy over time and, if it was measured, energy: a panel per variant in each row, as inline SVG."""
    units = ["ms"] if profile.costs.energy_source is None else ["ms", "mJ"]
    figure = Figure(figsize=(5.2 * len(manifest.variants), 4 * len(units)), layout="constrained")
    rows = figure.subplots(len(units), len(manifest.variants), squeeze=False)
    for unit, panels in zip(units, rows, strict=True):
        for panel, variant in zip(panels, manifest.variants, strict=True):
            _draw_panel(panel, profile, variant.name, unit)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue().partition("?>")[2].partition('.dtd">')[2]


def _draw_panel(panel: matplotlib.axes.Axes, profile: Profile, variant: str, unit: str) -> None:
    """Accuracy over what a clip costs, in ms or mJ."""

    def cost(outcome: Outcome) -> float:
        value = outcome.mean_ms if unit == "ms" else outcome.mean_mj
        return math.nan if value is None else value

    def points(outcomes: Sequence[Outcome]) -> tuple[list[float], list[float]]:
        return [cost(outcome) for outcome in outcomes], [outcome.accuracy for outcome in outcomes]

    for kind, color, marker in _KINDS:
        style: dict[str, Any] = {"color": color, "linestyle": "", "label": kind}
        panel.plot(*points(profile.of(variant, kind)), marker, **style)
    front = static_front(profile.of(variant, "static"), cost)
    panel.step(*points(front), where="post", color="#555", label="static front")
    adaptive = profile.adaptive(variant)
    if adaptive is not None:
        panel.plot(*points([adaptive]), "*", color="#c0392b", markersize=14, label="adaptive")
    panel.set(xscale="log", xlabel=f"measured {unit} a clip", ylabel="accuracy", title=variant)
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)
