"""The gates of a bundle's further targets: the same networks, and the same decisions, in another runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.bundle_plan import BundlePlan
from compiler.data.cache import ClipCache
from compiler.gate import Gate
from compiler.gates.integer_layers import verify_integers
from compiler.gates.parity import verify_graphs
from compiler.targets import Target
from runtimes.bundle import Bundle
from runtimes.engines.engine import open_engine
from runtimes.spec import Variant
from sdk.recognizer import StreamRecognizer
from sdk.results import Recognition

DECISION_AGREEMENT = 0.99


def verify_target(
    bundle: Bundle,
    target: Target,
    contents: BundlePlan,
    cache: ClipCache,
    clips: Sequence[int],
    more: Sequence[int],
    streamed: Sequence[int],
) -> list[Gate]:
    """All gates of one of a bundle's further targets: ``clips`` and ``more`` as for ``verify_graphs``.

    Its decisions are compared with the bundle's own target's on the ``streamed`` clips.
    """
    with open_engine(bundle, "cpu", target=target.name) as engine:
        gates = verify_graphs(bundle, engine, contents, cache, clips, more, target.name)
    gates += verify_integers(bundle, target)
    gates += verify_decisions(bundle, target, [cache.clips[clip].path for clip in streamed])
    return [replace(gate, name=f"{target.name}: {gate.name}") for gate in gates]


def verify_decisions(bundle: Bundle, target: Target, paths: Sequence[object]) -> list[Gate]:
    """Every variant with a policy that the target has graphs of: the choices of its own target, in turn.

    Runtimes round int8 layers differently, by a code here and there: where two options are all but level, the
    choice may be another, and so may what comes after it. At most one in a hundred may be.
    """
    graphs = {graph.name for graph in bundle.manifest.graphs_of(target.name)}
    variants = [v for v in bundle.manifest.variants if v.policy is not None and v.graphs <= graphs]
    return [_decision_gate(bundle, target, variant, paths) for variant in variants]


def _decision_gate(bundle: Bundle, target: Target, variant: Variant, paths: Sequence[object]) -> Gate:
    own, other = (_streamed(bundle, name, variant.name, paths) for name in (None, target.name))
    same = sum(one.choice == two.choice for one, two in zip(own, other, strict=True))
    labels = sum(one.label == two.label for one, two in zip(own, other, strict=True))
    saw = f"{same} of {len(own)} choices and {labels} labels are those of {bundle.manifest.target}"
    limit = f" (limit {DECISION_AGREEMENT:.0%})"
    return Gate(f"{variant.name} decides alike", saw + limit, same >= DECISION_AGREEMENT * len(own))


def _streamed(bundle: Bundle, target: str | None, variant: str, paths: Sequence[object]) -> list[Recognition]:
    with StreamRecognizer(bundle, "cpu", target=target, variant=variant) as recognizer:
        return [step for path in paths for step in recognizer.recognize(str(path)).recognitions]
