"""LiteRT graphs (.tflite) from trained torch modules, written operator by operator: no converter is needed.

They take the same inputs as the ONNX graphs, uint8 frames among them, and give the same outputs. A network of
integers keeps the codes and scales that it was trained with; where these are uint8 they are shifted to the
int8 that LiteRT computes with, which stands for the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from compiler.export.litert import arithmetic, layers, pooling
from compiler.export.litert.flatbuffer import FlatbufferGraph
from compiler.export.litert.reading import WIDENED, float_layers
from compiler.export.litert.translation import Translation
from compiler.export.policy_graph import PolicyGraph, example_inputs
from models.backbones.blocks import Backbone
from models.policies.policy import StepPolicy
from runtimes.spec import LOGITS, View

__all__ = ["WIDENED", "Precision", "export_branch", "export_policy", "float_layers"]

Precision = Literal["fp32", "fp16", "int8", "int4", "int2"]
"""fp16: float weights are stored in half precision. int4, int2: narrower codes, which are stored as int8."""

FRAME = "frame"
_SCORES = "scores"
_OPERATIONS = {**arithmetic.OPERATIONS, **layers.OPERATIONS, **pooling.OPERATIONS}


def export_branch(backbone: Backbone, name: str, views: Sequence[View], precision: str) -> bytes:
    """The graph of one branch: ``frame`` uint8 of the first view's shape to ``logits`` float (1, C).

    It serves the sizes of all ``views``: a runtime resizes its input. A network of integers has to be frozen;
    its biases are rounded in place to the integers that the graph stores.

    Raises: ValueError if ``precision`` is unknown or not the network's, or several views are of segments;
    NotImplementedError if the network computes what there is no counterpart for.
    """
    if len(views) > 1 and backbone.frames > 1:
        raise ValueError(f"{name}: a graph of segments serves one size, not {len(views)}")
    return _export(backbone, name, {FRAME: views[0]}, {}, [LOGITS], precision)


def export_policy(
    policy: StepPolicy, name: str, views: Mapping[str, View], heads: Sequence[str], precision: str
) -> bytes:
    """The policy graph: its views by input, what it is conditioned on, and its state by name.

    To ``scores``, the logits of each of its heads by the names in ``heads``, and ``next_<state>``: see
    ``runtimes.spec.Policy``. Raises: as for a branch.
    """
    outputs = [_SCORES, *heads, *(f"next_{part}" for part in policy.initial_state(1)._fields)]
    return _export(PolicyGraph(policy), name, views, example_inputs(policy), outputs, precision)


def _export(
    module: nn.Module,
    name: str,
    views: Mapping[str, View],
    others: Mapping[str, Tensor],
    outputs: Sequence[str],
    precision: str,
) -> bytes:
    if precision not in get_args(Precision):
        raise ValueError(f"{name}: precision {precision} is not one of {', '.join(get_args(Precision))}")
    frozen = any(hasattr(layer, "codes") for layer in module.modules())
    if frozen != precision.startswith("int"):
        raise ValueError(f"{name}: a network {'of' if frozen else 'without'} frozen codes is not {precision}")
    graph = FlatbufferGraph(name, halved=precision == "fp16")
    Translation(graph, module, views, others, _OPERATIONS).write(outputs)
    return graph.bytes()
