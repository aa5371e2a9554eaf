"""What the SDK adds to decoding, resizing and graph runs: the same film by the SDK and by bare libraries.

The bare loop repeats the SDK's choices with PyAV, swscale and ONNX Runtime and nothing else; its processor
time in those three is what the SDK's whole processor time is compared with. Passes alternate. A decoding
thread costs time of its own (the processor's caches are shared): the bare loop is run with one as well.
"""

from __future__ import annotations

import argparse
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import onnxruntime as ort
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from benchmarks.film import benchmark_film
from benchmarks.paper import STEP_RATE_HZ, paper_bundle
from benchmarks.record import shown, spread, write
from benchmarks.scripted import TWENTY_STEPS, ScriptedChoice
from runtimes.bundle import Bundle
from runtimes.engines.engine import Array, Engine, GraphRunner, open_engine
from runtimes.engines.onnx import session_options
from runtimes.spec import Manifest, Variant
from sdk.decisions.step_pipeline import Pipeline
from sdk.media.frames import Frame
from sdk.media.sources.source import open_source
from sdk.media.steps import decode_steps
from sdk.results import Recognition
from sdk.streaming.statistics import Statistics

VARIANT, SECONDS, EVERY = "int8", 8, 4


class BareLoop:
    """PyAV, swscale and ONNX Runtime, called in the order that given choices call for."""

    def __init__(self, bundle: Bundle) -> None:
        variant = bundle.variant(VARIANT)
        self._options = {option.name: option for option in variant.action_space.options}
        assert variant.policy is not None, "a paper's bundle has a policy"
        self._policy = variant.policy
        self._price = np.zeros((1, 1), np.float32)
        self._scalers = {view.name: (view.size, VideoReformatter()) for view in bundle.manifest.views}
        names = {option.graph for option in self._options.values() if option.graph}
        self._sessions = {
            name: _session(bundle.path(bundle.manifest.graph(name).file))
            for name in {*names, self._policy.graph}
        }

    def take(self, path: Path, choices: list[str]) -> float:
        """Processor time (ms) spent in the libraries for the whole film, opening it included."""
        state = {name: np.zeros(shape, np.float32) for name, shape in self._policy.state.items()}
        steps = iter(choices)
        began = time.thread_time()
        with av.open(str(path)) as container:
            spent = time.thread_time() - began
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            pictures = container.decode(stream)
            number = 0
            while True:
                began = time.thread_time()
                image = next(pictures, None)
                spent += time.thread_time() - began
                if image is None:
                    return spent * 1e3
                if number % EVERY == 0:
                    choice = next(steps)
                    began = time.thread_time()
                    state = self._step(image, choice, state)
                    spent += time.thread_time() - began
                number += 1

    def take_threaded(self, path: Path, choices: list[str]) -> float:
        """Processor time (ms) of the process for the film, decoded in a thread behind a queue of four."""
        state = {name: np.zeros(shape, np.float32) for name, shape in self._policy.state.items()}
        images: queue.Queue[av.VideoFrame] = queue.Queue(4)
        began = time.process_time()
        decoding = threading.Thread(target=_decode, args=(path, images))
        decoding.start()
        for choice in choices:
            state = self._step(images.get(), choice, state)
        decoding.join()
        return (time.process_time() - began) * 1e3

    def _step(self, image: av.VideoFrame, choice: str, state: dict[str, Any]) -> dict[str, Any]:
        if choice == "held":
            return state
        frame = self._render(image, self._policy.views[0])
        _, _, h, c = self._sessions[self._policy.graph].run(
            ["scores", "logits", "next_h", "next_c"], {"frame": frame, "price": self._price, **state}
        )
        option = self._options[choice]
        if option.graph and option.view and option.graph != self._policy.graph:
            self._sessions[option.graph].run(["logits"], {"frame": self._render(image, option.view)})
        return {"h": h, "c": c}

    def _render(self, image: av.VideoFrame, view: str) -> NDArray[np.uint8]:
        size, scaler = self._scalers[view]
        width = round(image.width * size / image.height)
        small = scaler.reformat(
            image, width=width, height=size, format="rgb24", interpolation=Interpolation.AREA, threads=1
        )
        left = (width - size) // 2
        return np.ascontiguousarray(small.to_ndarray()[None, :, left : left + size], np.uint8)


def _decode(path: Path, images: queue.Queue[av.VideoFrame]) -> None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, image in enumerate(container.decode(stream)):
            if number % EVERY == 0:
                images.put(image)


def _session(path: Path) -> ort.InferenceSession:
    options = session_options(threads=1)
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class InstantEngine:
    """Graphs that answer at once: what is left of a step is Python, its code and data still in the caches."""

    def __init__(self, manifest: Manifest) -> None:
        random = np.random.default_rng(0)
        self._answers: dict[str, dict[str, Array]] = {
            graph.name: {
                name: random.normal(size=[size or 1 for size in tensor.shape]).astype(np.float32)
                for name, tensor in graph.outputs.items()
            }
            for graph in manifest.graphs
        }

    def graph(self, name: str) -> GraphRunner:
        """Always the same answer."""
        answer = self._answers[name]

        def run(**inputs: Array) -> dict[str, Array]:
            return dict(answer)

        return run


def measure(rounds: int) -> dict[str, Any]:
    """The SDK's processor time against the libraries' own, and its Python time in a step by choice."""
    bundle, path = paper_bundle(), benchmark_film(SECONDS)
    bare, variant = BareLoop(bundle), bundle.variant(VARIANT)
    libraries, threaded, passes = [], [], defaultdict[str, list[float]](list)
    post, instant_post = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    with open_engine(bundle, "cpu", threads=1) as engine:
        pipeline = Pipeline(bundle.manifest, variant, engine, _script(variant), top=5)
        instant = Pipeline(
            bundle.manifest, variant, cast(Engine, InstantEngine(bundle.manifest)), _script(variant), top=5
        )
        frames_kept = list(_in_caller(path))
        choices = [result.choice for result in _taken(pipeline, _in_caller(path))]
        bare.take(path, choices)
        for _ in range(rounds):
            libraries.append(bare.take(path, choices))
            threaded.append(bare.take_threaded(path, choices))
            for name, frames in (("one thread", _in_caller(path)), ("decoding thread", _in_thread(path))):
                began = time.process_time()
                results = _taken(pipeline, frames)
                passes[name].append((time.process_time() - began) * 1e3)
                _sort_by_choice(results, post)
            _sort_by_choice(_taken(instant, frames_kept), instant_post)
    steps, alone = len(choices), np.array(libraries)
    compared = {name: _compared(np.array(spent), alone, steps) for name, spent in passes.items()}
    behind = np.array(threaded)
    compared["decoding thread, both"] = _compared(np.array(passes["decoding thread"]), behind, steps)
    return {
        "steps_per_pass": steps,
        "rounds": rounds,
        "libraries_ms_per_step": spread(alone / steps),
        "libraries_with_a_decoding_thread_ms_per_step": spread(behind / steps),
        "sdk": compared,
        "python_ms_in_a_step": _by_choice(post),
        "python_ms_in_a_step_with_instant_graphs": _by_choice(instant_post),
    }


def _script(variant: Variant) -> ScriptedChoice:
    return ScriptedChoice(variant, TWENTY_STEPS)


def _taken(pipeline: Pipeline, frames: Iterable[Frame]) -> list[Recognition]:
    """Take the film as StreamRecognizer does: statistics are kept of every result."""
    pipeline.reset()
    statistics, results = Statistics(), []
    for frame in frames:
        results.append(pipeline.advance(frame))
        statistics.record_result(results[-1])
    return results


def _in_caller(path: Path) -> Iterator[Frame]:
    """Decoded as ``recognize`` does."""
    return decode_steps(path, STEP_RATE_HZ)


def _in_thread(path: Path) -> Iterator[Frame]:
    """Decoded as ``stream`` does."""
    with open_source(path, rate_hz=STEP_RATE_HZ) as source:
        yield from source


def _sort_by_choice(results: list[Recognition], post: dict[str, list[float]]) -> None:
    for result in results:
        post[result.choice].append(result.latency_ms.post)
        post["any"].append(result.latency_ms.post)


def _by_choice(post: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {choice: spread(spent, 4) for choice, spent in sorted(post.items())}


def _compared(
    sdk: NDArray[np.float64], libraries: NDArray[np.float64], steps: int
) -> dict[str, dict[str, float]]:
    return {
        "ms_per_step": spread(sdk / steps),
        "added_ms_per_step": spread((sdk - libraries) / steps),
        "added_percent": spread((sdk / libraries - 1) * 100, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    measured = measure(parser.parse_args().rounds)
    print("libraries, ms a step:", shown(measured["libraries_ms_per_step"]))
    for way, row in measured["sdk"].items():
        print(f"{way}:", *(f"{key} {shown(value)}" for key, value in row.items()), sep="  ")
    for kind in ("python_ms_in_a_step", "python_ms_in_a_step_with_instant_graphs"):
        print(kind, *(f"  {choice}: {shown(value)}" for choice, value in measured[kind].items()), sep="\n")
    print(write("sdk_overhead", measured))


if __name__ == "__main__":
    main()
