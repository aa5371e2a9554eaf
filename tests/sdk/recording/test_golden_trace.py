"""Golden traces as an app makes them."""

from __future__ import annotations

import json

import pytest

from runtimes.bundle import Bundle
from runtimes.errors import BundleError
from sdk.recording.golden_trace import decide_again, trace_decisions

SOURCE = "test://?size=320x240&rate=10&duration=2&live=0"


def test_a_path_and_an_open_bundle_give_the_same_trace(bundle: Bundle) -> None:
    traces = [trace_decisions(given, SOURCE) for given in (str(bundle.folder), bundle.folder, bundle)]
    assert traces[0] == traces[1] == traces[2]
    assert len(decide_again(json.loads(json.dumps(traces[0])))) == 20


def test_a_path_without_a_bundle_is_said() -> None:
    with pytest.raises(BundleError, match="does not exist"):
        trace_decisions("none.bundle", SOURCE)
