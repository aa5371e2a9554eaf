"""What a bundle's manifest says, all but its files, costs and accuracy."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from dataclasses import asdict

from pydantic import JsonValue

from compiler.data.loading import BUILT_IN
from compiler.export.split import Split
from compiler.request import Request
from compiler.training.training import Training
from models.recipe import Recipe
from runtimes.spec import Steps
from sdk.errors import redact

_VERSIONED = ("adaptive-video", "av", "brevitas", "lightning", "numpy", "onnx", "onnxruntime", "torch")


def manifest_fields(training: Training, preset: str, target: str, parts: Split) -> dict[str, object]:
    """The manifest of a trained model whose graphs are written; its first variant is the default."""
    model, cache = training.model, training.cache
    return {
        "model": training.name,
        "preset": preset,
        "target": target,
        "labels": cache.labels,
        "views": tuple(model.views.values()),
        "steps": Steps(rate_hz=cache.rate_hz, clip_steps=cache.clip_steps, segment_s=cache.segment_s),
        "fusion": model.fusion_of(cache.clip_steps),
        "graphs": parts.graphs,
        "stores": parts.stores,
        "variants": parts.variants,
        "default_variant": parts.variants[0].name,
    }


def provenance(request: Request, training: Training, recipe: Recipe) -> dict[str, JsonValue]:
    """Where a bundle comes from: the data, the request, the recipe, and the versions of what made it."""
    data, precision, measuring = request.data, request.precision, request.measuring
    return {
        "command": redact(" ".join(sys.argv)),
        "dataset": str(data.folder) if data.folder else BUILT_IN,
        "dataset_sha256": training.cache.fingerprint,
        "init": str(request.model.init) if request.model.init else None,
        "seed": request.training.seed,
        "precisions": list(request.precisions or ()),
        "keep_all_precisions": precision.keep_all,
        "policy_costs": "modeled BitOps, relative to int8"
        if precision.modeled_costs
        else str(measuring.costs or "measured"),
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONED},
    }
