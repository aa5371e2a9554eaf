"""What options cost, by a table."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.spec import CostTable, GraphCost, ViewCost
from sdk.decisions.option_costs import option_costs
from tests.runtimes.bundles import cost_table
from tests.sdk.decisions.deciding import arnet


def test_option_costs() -> None:
    # rgb224: 8 + 0.1 to resize; rgb84 is the policy's own view, rendered anyway; its head is free; a skip
    # of 4 saves three runs of the policy, 0.5 + 0.1 each.
    np.testing.assert_allclose(option_costs(arnet(), cost_table()), [8.1, 2.1, 1.0, 0, -1.8])


def test_option_costs_of_an_incomplete_table() -> None:
    table = CostTable(
        device="x",
        providers=(),
        threads=1,
        graphs=(GraphCost(graph="net-int8", view="rgb84", p50_ms=1, p95_ms=1),),
        views=(ViewCost(view="rgb84", p50_ms=1, p95_ms=1),),
    )
    with pytest.raises(KeyError, match="policy"):
        option_costs(arnet(), table)
