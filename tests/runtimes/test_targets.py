"""A bundle with graphs for several targets: which is opened, and what each lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtimes.bundle import Bundle
from runtimes.engines.engine import open_engine
from runtimes.errors import BundleError, EngineError
from runtimes.spec import Graph, Manifest
from tests.runtimes.bundles import build_bundle, manifest_fields


def of_target(graph: Graph, target: str) -> Graph:
    return graph.model_copy(update={"target": target})


@pytest.fixture(scope="module")
def two_targets(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small bundle, all of whose graphs but the fp32 branch are also for a board."""
    folder = tmp_path_factory.mktemp("two")
    graphs = manifest_fields()["graphs"]
    board = tuple(of_target(graph, "board") for graph in graphs if graph.name != "net-fp32")
    return build_bundle(folder / "two.bundle", folder / "scratch", graphs=(*graphs, *board))


def test_targets_in_order_and_their_graphs(two_targets: Bundle) -> None:
    manifest = two_targets.manifest
    assert manifest.targets == ("cpu", "board") and manifest.runtime("board") == "onnx"
    assert [graph.name for graph in manifest.graphs_of("board")] == ["policy", "net-int8"]
    assert manifest.graph("policy").target == "cpu" and manifest.graph("policy", "board").target == "board"
    assert two_targets.absent("board") == {"net-fp32"} and two_targets.absent() == set()


def test_the_variant_is_one_that_the_target_has_the_graphs_of(two_targets: Bundle) -> None:
    manifest = two_targets.manifest.model_copy(update={"default_variant": "fp32"})
    bundle = Bundle(two_targets.location, two_targets.folder, manifest, two_targets.missing)
    assert bundle.variant(None).name == "fp32"
    assert bundle.variant(None, "board").name == "int8"
    assert bundle.variant("fp32", "board").name == "fp32", "what is asked for by name is not exchanged"


def test_an_engine_of_another_target(two_targets: Bundle) -> None:
    with open_engine(two_targets, "cpu", target="board") as engine:
        engine.graph("policy")
        with pytest.raises(
            EngineError, match="graph net-fp32: is not in the bundle; use one of policy, net-int8"
        ):
            engine.graph("net-fp32")


def test_a_target_that_the_bundle_has_no_graphs_for(two_targets: Bundle) -> None:
    with pytest.raises(BundleError, match=r"no graphs for target phone; use one of cpu, board, or compile"):
        open_engine(two_targets, target="phone")


def test_a_device_of_another_runtime(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"device gpu: is none of ONNX Runtime's; use one of cpu, cuda"):
        open_engine(bundle, "gpu")


@pytest.mark.parametrize(
    ("runtime", "targets", "complaint"),
    [
        ("onnx", ("cpu", "cpu"), "names of graphs or views repeat"),
        ("litert", ("cpu",), "several runtimes"),
        ("onnx", ("phone",), "not among those of the target cpu"),
    ],
)
def test_manifests_that_contradict_themselves(
    bundle: Bundle, runtime: str, targets: tuple[str, ...], complaint: str
) -> None:
    fields = bundle.manifest.model_dump()
    for target in targets:
        extra = fields["graphs"][0] | {"target": target, "runtime": runtime, "name": f"policy-{runtime}"}
        if complaint.startswith("names"):
            extra["name"] = "policy"
        fields["graphs"] = (*fields["graphs"], extra)
    with pytest.raises(ValueError, match=complaint):
        Manifest.model_validate(fields)


def test_streams_agree_whatever_target_they_are_opened_for(two_targets: Bundle, tmp_path: Path) -> None:
    from sdk.recognizer import StreamRecognizer

    said = []
    for target in (None, "board"):
        with StreamRecognizer(two_targets, "cpu", target=target, variant="int8") as recognizer:
            steps = list(recognizer.stream("test://?duration=1&live=0"))
            said.append([(step.choice, step.label, step.score) for step in steps])
    assert said[0] == said[1] and np.isfinite([score for *_, score in said[0]]).all()
