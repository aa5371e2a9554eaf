"""AR-Net's ``paper`` preset as the benchmarks run it. No torch here: a device has none."""

from __future__ import annotations

from benchmarks.film import RATE_HZ
from runtimes.bundle import MANIFEST, Bundle
from runtimes.cache import cache_folder

STEP_RATE_HZ = RATE_HZ / 4
"""Every fourth frame is a step."""
NETWORKS = {
    "rgb224": "ResNet-50 @ 224",
    "rgb168": "ResNet-34 @ 168",
    "rgb112": "ResNet-18 @ 112",
    "policy": "MobileNetV2 + LSTM @ 84",
}
"""What each part of the bundle's graphs is."""


def paper_bundle() -> Bundle:
    """The bundle in the user's cache, built when first asked for (two minutes)."""
    folder = cache_folder("benchmarks") / "arnet-paper.bundle"
    if not (folder / MANIFEST).is_file():
        from benchmarks.paper_bundle import build

        build(folder)
    return Bundle.open(folder)
