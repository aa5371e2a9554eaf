"""The plain data that models, compiler, runtimes and SDK share: what a manifest is made of.

Every type is a frozen pydantic model, validated when it is built and when a manifest is read.
No torch, no numpy: a manifest can be read anywhere.
"""

from runtimes.spec.action_space import ActionSpace, Group, Option
from runtimes.spec.base import Name, Spec
from runtimes.spec.costs import CostTable, GraphCost, ViewCost
from runtimes.spec.graphs import Bits, Graph, Runtime, Store, StoredTensor, Tensor
from runtimes.spec.manifest import OLDEST_SCHEMA, SCHEMA_VERSION, FileRecord, Manifest
from runtimes.spec.operating_points import (
    Interval,
    LookFusion,
    OperatingFront,
    OperatingPoint,
    StopRule,
)
from runtimes.spec.variant import (
    ANSWER,
    LOGITS,
    PRESENT,
    PRICE,
    Fusion,
    InputSource,
    Policy,
    PolicyInput,
    PriceResponse,
    Steps,
    Variant,
    policy_inputs,
)
from runtimes.spec.views import Modality, View

__all__ = [
    "ANSWER",
    "LOGITS",
    "OLDEST_SCHEMA",
    "PRESENT",
    "PRICE",
    "SCHEMA_VERSION",
    "ActionSpace",
    "Bits",
    "CostTable",
    "FileRecord",
    "Fusion",
    "Graph",
    "GraphCost",
    "Group",
    "InputSource",
    "Interval",
    "LookFusion",
    "Manifest",
    "Modality",
    "Name",
    "OperatingFront",
    "OperatingPoint",
    "Option",
    "Policy",
    "PolicyInput",
    "PriceResponse",
    "Runtime",
    "Spec",
    "Steps",
    "StopRule",
    "Store",
    "StoredTensor",
    "Tensor",
    "Variant",
    "View",
    "ViewCost",
    "policy_inputs",
]
