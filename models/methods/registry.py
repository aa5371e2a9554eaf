"""The methods that can be compiled, by name: a line for each paper's file."""

from __future__ import annotations

from typing import Any

from models.contract import Method
from models.methods import adamml, arnet, coquant, joint, videoiq

METHODS: dict[str, Method[Any]] = {
    method.name: method
    for method in (
        arnet.METHOD,
        adamml.METHOD,
        videoiq.METHOD,
        coquant.METHOD,
        joint.METHOD,
    )
}
