"""A data set of a few synthetic clips, and a small AR-Net trained on it for an epoch a stage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from compiler.bundle_plan import BundlePlan
from compiler.data.cache import ClipCache
from compiler.data.synthetic.built_in import make_clips
from compiler.export.split import Split, split
from compiler.quantization.networks import integer_networks
from compiler.targets import TARGETS
from compiler.training.stages import train_float
from compiler.training.training import Training
from compiler.variants import variants
from models.rollout.branch_model import POLICY
from runtimes.bundle import Bundle, write_bundle
from tests.compiler.small_training import CLASSES, bundle_fields, small_cache, small_training
from tests.models.small_arnet import BRANCHES

# Networks this small gain nothing from more threads, and threads that wait for a core spin.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def clips_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("clips"), train_clips=4, val_clips=2, classes=CLASSES)


@pytest.fixture(scope="session")
def cache(clips_root: Path, tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    return small_cache(clips_root, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def training(cache: ClipCache, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """After all float stages."""
    made = small_training(cache, tmp_path_factory.mktemp("run"))
    train_float(made)
    nn.init.normal_(made.adaptive.policy.score.weight, std=3.0)  # an epoch leaves it indifferent
    return made


@pytest.fixture(scope="session")
def integer(training: Training) -> dict[str, nn.Module]:
    """The int8 networks for CPUs."""
    return integer_networks(training, (POLICY, *BRANCHES), "uint8", training.train_clips)


@pytest.fixture(scope="session")
def contents(training: Training, integer: dict[str, nn.Module]) -> BundlePlan:
    return variants(training, TARGETS["cpu"], integer)


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the graphs' files."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="session")
def parts(contents: BundlePlan, graphs: Path) -> Split:
    return split(contents, (TARGETS["cpu"],), graphs)


@pytest.fixture(scope="session")
def manifest_fields(training: Training, parts: Split) -> dict[str, object]:
    """The manifest of the small bundle, all but ``files``."""
    return bundle_fields(training, parts, "int8")


@pytest.fixture(scope="session")
def bundle(
    manifest_fields: dict[str, object], graphs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "small.bundle", graphs, manifest_fields)
