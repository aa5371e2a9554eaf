"""What writing a target's graphs comes to."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.bundle_plan import Network
from compiler.gate import Gate
from compiler.targets import Target
from models.macs import network_macs
from models.rollout.branch_model import POLICY
from runtimes.spec import Graph


@dataclass(frozen=True)
class Written:
    """What the manifest says of each graph, and the gates that only the writer can judge."""

    graphs: tuple[Graph, ...]
    gates: tuple[Gate, ...] = ()


def graph_of(network: Network, target: Target, **fields: object) -> Graph:
    """What the manifest says of a network's graph; ``fields`` are those that depend on the runtime."""
    known = {
        "name": network.graph,
        "target": target.name,
        "runtime": target.runtime,
        "precision": network.precision,
        "role": "policy" if network.part == POLICY else "branch",
        "macs": _macs(network),
    }
    return Graph.model_validate(known | fields)


def _macs(network: Network) -> dict[str, int]:
    """Of a run on each of a branch's views; of a policy's, on all at once, under the first."""
    if network.part == POLICY:
        return {network.view.name: network_macs(network.module, network.views)}
    return {view.name: network_macs(network.module, [view]) for view in network.views}


def integer_gate(network: Network, integer: int, floating: int) -> Gate:
    """No layer of an integer network is left to compute in float."""
    saw = f"{integer} layers integer, {floating} left in float"
    return Gate(f"{network.graph} is integer in its file", saw, floating == 0)
