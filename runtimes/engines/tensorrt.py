"""Options of the TensorRT provider: which shapes to build for, and where its engines are kept.

An engine holds for one graph, one accelerator, one driver and one runtime. TensorRT's own cache file names
miss some of these, and then one graph runs with another's engine: each graph gets its own folder and prefix.
"""

from __future__ import annotations

import hashlib

from runtimes.cache import cache_folder
from runtimes.device import accelerator_identity
from runtimes.spec import Graph, Manifest


def tensorrt_options(manifest: Manifest, graph: Graph, digest: str, version: str) -> dict[str, str]:
    """Options for ``graph``, whose files hash to ``digest``, under ONNX Runtime ``version``."""
    profile = optimization_profiles(manifest, graph)
    machine = hashlib.sha256("\n".join((accelerator_identity(), version, profile)).encode()).hexdigest()[:16]
    folder = cache_folder("tensorrt") / digest / f"{machine}-{graph.precision}"
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_engine_cache_prefix": graph.name,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_int8_enable": "1" if graph.precision == "int8" else "0",
        # fp32 stays fp32: a graph never runs in less than the precision it declares.
        "trt_fp16_enable": "0" if graph.precision == "fp32" else "1",
    }
    if profile:
        options |= {f"trt_profile_{bound}_shapes": profile for bound in ("min", "opt", "max")}
    return options


def optimization_profiles(manifest: Manifest, graph: Graph) -> str:
    """One profile for each view the graph runs on, as ``frame:1x84x84x3,frame:1x224x224x3``; empty if static.

    A shape outside the profiles would rebuild the engine in the middle of a stream.
    """
    frame = graph.inputs.get("frame")
    if frame is None or None not in frame.shape:
        return ""
    options = [option for variant in manifest.variants for option in variant.action_space.options]
    views = {option.view for option in options if option.graph == graph.name}
    for variant in manifest.variants:
        if variant.policy is not None and variant.policy.graph == graph.name:
            views.update(variant.policy.views)
    sizes = sorted(manifest.view(name).size for name in views if name)
    return ",".join(f"frame:1x{size}x{size}x3" for size in sizes)
