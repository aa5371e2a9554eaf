"""AR-Net's ``paper`` preset as a bundle without training: right in speed and memory, of no use otherwise.

Weights are random; batch norms and int8 scales are set from frames of the benchmark film.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.film import benchmark_film
from benchmarks.paper import STEP_RATE_HZ, paper_bundle
from compiler.bundle_plan import BundlePlan, Network, VariantPlan
from compiler.export.split import split
from compiler.targets import find_target
from models.layers.quantization import calibrate, freeze, quantize
from models.methods import arnet
from models.policies.policy import RecurrentPolicy
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import POLICY, pixels
from runtimes.bundle import Bundle, write_bundle
from runtimes.spec import Fusion, Steps, View
from sdk.media.steps import decode_steps
from sdk.media.views.pixels import ViewRenderer

PRESET, CLASSES = "paper", 200
_BATCHES, _BATCH = 3, 8


def build(destination: Path) -> Bundle:
    """Build the model, quantize it and write the bundle to ``destination``."""
    torch.manual_seed(0)
    labels = tuple(f"class{number:03}" for number in range(CLASSES))
    preset = arnet.PRESETS[PRESET]
    model = arnet.METHOD.build(preset, labels)
    assert isinstance(model, AdaptiveModel)
    for network, batches in _networks(model):
        _set_norms(network, batches)
    model.eval()
    target = find_target("cpu")
    integer = {}
    for name, (network, batches) in zip((POLICY, *model.branches), _networks(model), strict=True):
        quantized = quantize(network, target.activations)
        calibrate(quantized, _runs(quantized, batches))
        integer[name] = freeze(quantized)
    with tempfile.TemporaryDirectory(prefix="paper-bundle-") as graphs:
        floating = {POLICY: model.policy, **model.branches}
        plans = tuple(
            _plan(model, precision, integer if precision == "int8" else floating)
            for precision in target.precisions
        )
        parts = split(BundlePlan(plans), (target,), Path(graphs))
        fields = {
            "model": "arnet",
            "preset": PRESET,
            "target": target.name,
            "labels": labels,
            "views": tuple(model.views.values()),
            "steps": Steps(rate_hz=STEP_RATE_HZ, clip_steps=preset.steps),
            "fusion": Fusion(window=preset.steps),
            "graphs": parts.graphs,
            "variants": parts.variants,
            "default_variant": target.precisions[0],
        }
        return write_bundle(destination, graphs, fields)


def _plan(model: AdaptiveModel, precision: str, modules: Mapping[str, nn.Module]) -> VariantPlan:
    networks = {
        part: Network(f"arnet-{part}-{precision}", part, module, precision, model.views_of(part))
        for part, module in modules.items()
    }
    policy = replace(networks.pop(POLICY), heads=model.heads)
    return VariantPlan(precision, model, policy, networks)


def _networks(model: AdaptiveModel) -> list[tuple[nn.Module, list[Tensor]]]:
    """The policy and every branch, each with batches (N, 3, S, S) of its view."""
    views = [model.view_of(POLICY), *(model.view_of(name) for name in model.branches)]
    networks = [model.policy, *model.branches.values()]
    return [(network, _batches(view)) for network, view in zip(networks, views, strict=True)]


def _batches(view: View) -> list[Tensor]:
    renderer = ViewRenderer(view)
    steps = decode_steps(benchmark_film(10), STEP_RATE_HZ, _BATCHES * _BATCH)
    frames = torch.cat([torch.from_numpy(renderer.render(frame)) for frame in steps])
    return list(torch.split(pixels(frames, view), _BATCH))


def _set_norms(network: nn.Module, batches: list[Tensor]) -> None:
    """Give every batch norm the mean statistics of the batches: random nets overflow without."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    network.train()
    with torch.no_grad():
        for _ in _runs(network, batches):
            pass


def _runs(network: nn.Module, batches: list[Tensor]) -> Iterator[None]:
    for batch in batches:
        if isinstance(network, RecurrentPolicy):
            conditions = network.no_conditions(len(batch))
            network.advance(network.embed(batch), conditions, network.initial_state(len(batch)))
        else:
            network(batch)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "destination", type=Path, nargs="?", help="a new folder; the user's cache if left out"
    )
    destination = parser.parse_args().destination
    bundle = build(destination) if destination else paper_bundle()
    print(bundle.location)


if __name__ == "__main__":
    main()
