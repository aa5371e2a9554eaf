"""Every set of modalities against the policy's choice: accuracy, use, MACs and ms of clips as streamed.

    python -m benchmarks.modalities BUNDLE [--data DIR] [--variant int8] [--clips 200] [--mute 0.5]

For each validation clip, in turn: each modality alone and all of them together, on every step and on every
second, third ... one; random choices; the learned policy. ``ms`` is what the results say of a clip: decoding,
spectrogram, resizing, policy, branches, fusion; ``processor ms`` the thread's time for all of it, opening the
file included. ``--mute``: that share of the clips loses its sound track first. Without ``--data``: the
built-in clips. Written to ``benchmarks/results/modalities-<data>.json``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.record import shown, spread, write
from compiler.data.clips import Clip, find_clips
from compiler.data.synthetic.built_in import make_clips
from compiler.measuring.evaluation import branch_sets
from runtimes.bundle import Bundle
from runtimes.spec import Manifest, Variant
from sdk.recognizer import StreamRecognizer
from sdk.results import RAN, ClipRecognition


@dataclass
class Way:
    """One way to choose, and what it came to on each clip."""

    name: str
    recognizer: StreamRecognizer
    ms: list[float] = field(default_factory=list)
    compute_ms: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    macs: list[float] = field(default_factory=list)
    ran: Counter[str] = field(default_factory=Counter)
    steps: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--variant")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--mute", type=float, default=0.0)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    data = arguments.data or make_clips(seed=0)
    clips = [clip for clip in find_clips(data).clips if clip.split == "val"]
    clips = [clips[i * len(clips) // arguments.clips] for i in range(min(arguments.clips, len(clips)))]
    with ExitStack() as opened, tempfile.TemporaryDirectory() as folder:
        clips = list(_muted(clips, arguments.mute, Path(folder)))
        muted_clips = [clip.path.parent == Path(folder) for clip in clips]
        ways = list(_ways(bundle, arguments.variant))
        for way in ways:
            opened.enter_context(way.recognizer)
        for clip in clips:
            for way in ways:
                _recognize(way, clip, bundle.manifest)
    rows = [_row(way, ways[0], muted_clips) for way in ways]
    for row in rows:
        share = f"{shown(row['of all together'])}, compute {shown(row['of all together, decoding apart'])}"
        accuracies = f"{row['accuracy']:.3f} (muted: {row['accuracy of the muted']})"
        print(f"{row['way']:24} {accuracies}  {shown(row['ms'])} ms  {share}  {row['used']}")
    muted = f"-{arguments.mute:g}-muted" if arguments.mute else ""
    facts = {"bundle": arguments.bundle.name, "variant": ways[0].recognizer.variant.name, "clips": len(clips)}
    write(
        f"modalities-{arguments.data.name if arguments.data else 'built-in'}{muted}", {**facts, "rows": rows}
    )


def _ways(bundle: Bundle, variant: str | None) -> Iterator[Way]:
    """All together first: the others are compared with it."""
    chosen = bundle.variant(variant)
    sets = sorted(branch_sets(chosen), key=len, reverse=True)
    most = _most_steps(bundle.manifest)
    for options in sets:
        name = "+".join(option.name for option in options)
        for every in range(1, most + 1):
            said = name if every == 1 else f"{name}, every {every}"
            yield Way(said, _opened(bundle, chosen, fixed=name, every=every))
    yield Way("random", _opened(bundle, chosen, random_seed=0))
    yield Way("policy", _opened(bundle, chosen))


def _most_steps(manifest: Manifest) -> int:
    return min(manifest.steps.clip_steps, 4)


def _opened(bundle: Bundle, variant: Variant, **choice: Any) -> StreamRecognizer:
    return StreamRecognizer(bundle, "cpu", variant=variant.name, threads=1, **choice)


def _recognize(way: Way, clip: Clip, manifest: Manifest) -> None:
    began = time.thread_time()
    result = way.recognizer.recognize(clip.path)
    way.processor_ms.append((time.thread_time() - began) * 1e3)
    way.ms.append(result.latency_ms.total)
    way.compute_ms.append(result.latency_ms.total - result.latency_ms.decode)
    way.right.append(result.label == clip.label)
    way.macs.append(_macs(result, way, manifest))
    for recognition in result.recognitions:
        way.steps += 1
        way.ran.update(name for name, said in recognition.modalities.items() if said == RAN)


def _macs(result: ClipRecognition, way: Way, manifest: Manifest) -> float:
    """Multiply-accumulates of the clip's policy and branch runs."""
    variant, total = way.recognizer.variant, 0
    by_group = {group.name: group.options for group in variant.action_space.groups}
    policy = variant.policy if way.name in ("random", "policy") else None
    for recognition in result.recognitions:
        total += sum(manifest.graph(policy.graph).macs.values()) if policy else 0
        for name, said in recognition.modalities.items():
            if said == RAN:
                option = next(o for o in by_group[name] if o.name in recognition.choice.split("+"))
                assert option.graph is not None, "what ran has a graph"
                total += sum(manifest.graph(option.graph).macs.values())
    return total / 1e6


def _row(way: Way, all_together: Way, muted: list[bool]) -> dict[str, Any]:
    compute = np.array(way.compute_ms) / np.array(all_together.compute_ms)
    return {
        "way": way.name,
        "accuracy": round(float(np.mean(way.right)), 4),
        "accuracy of the muted": round(float(np.array(way.right)[muted].mean()), 4) if any(muted) else None,
        "ms": spread(way.ms),
        "of all together": spread(np.array(way.ms) / np.array(all_together.ms)),
        "of all together, decoding apart": spread(compute),
        "processor ms": spread(way.processor_ms),
        "mmacs": round(float(np.mean(way.macs)), 1),
        "used": {name: round(count / way.steps, 3) for name, count in sorted(way.ran.items())},
        "segments": round(way.steps / len(muted), 2),
    }


def _muted(clips: list[Clip], share: float, folder: Path) -> Iterator[Clip]:
    """The clips, an even share of them copied without their sound."""
    for number, clip in enumerate(clips):
        if int((number + 1) * share) == int(number * share):
            yield clip
            continue
        path = folder / f"{number}{clip.path.suffix}"
        with av.open(str(clip.path)) as source, av.open(str(path), "w") as target:
            video = source.streams.video[0]
            copied = target.add_stream_from_template(video)
            for packet in source.demux(video):
                if packet.dts is not None:
                    packet.stream = copied
                    target.mux(packet)
        yield Clip(path, clip.label, clip.group, clip.split)


if __name__ == "__main__":
    main()
