"""The layers as the sources have them: who imports whom, and that only models/ names a method."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.methods.registry import METHODS

ROOT = Path(__file__).parent.parent
FLOORS = ("runtimes", "models", "sdk", "compiler")
MAY_IMPORT = {
    "runtimes": {"runtimes"},
    "models": {"models", "runtimes"},
    "sdk": {"sdk", "runtimes"},
    "compiler": set(FLOORS),
}
METHOD_NAMES = re.compile(rf"\b({'|'.join('-?'.join(name) for name in METHODS)})\b", re.IGNORECASE)
"""Of every method in the registry, also written with hyphens."""
USES_TORCH = "runtimes/engines/executorch.py"


def sources(*floors: str) -> list[Path]:
    return [path for floor in floors for path in sorted((ROOT / floor).rglob("*.py"))]


def imports(path: Path, *, at_module_level: bool = False) -> Iterator[str]:
    """The dotted names that a file imports; ``if TYPE_CHECKING`` and functions left out at module level."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if at_module_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield str(node.module)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources("compiler", "sdk", "runtimes"), ids=named)
def test_no_method_is_named_outside_models(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert [line for line in lines if METHOD_NAMES.search(line)] == []


def test_every_method_of_the_registry_is_looked_for() -> None:
    assert all(METHOD_NAMES.search(f"as {name.upper()} does") for name in METHODS)
    assert METHOD_NAMES.search("AR-Net") and not METHOD_NAMES.search("jointly")


@pytest.mark.parametrize("floor", FLOORS)
def test_nothing_is_imported_from_a_floor_above(floor: str) -> None:
    wrong = [
        (named(path), name)
        for path in sources(floor)
        for name in imports(path)
        if name.split(".")[0] in FLOORS and name.split(".")[0] not in MAY_IMPORT[floor]
    ]
    assert wrong == []


def test_models_take_nothing_of_runtimes_but_its_data_types() -> None:
    names = {name for path in sources("models") for name in imports(path) if name.startswith("runtimes")}
    assert {name for name in names if not name.startswith(("runtimes.spec", "runtimes.errors"))} <= {
        "runtimes"
    }


@pytest.mark.parametrize("path", sources("sdk", "runtimes"), ids=named)
def test_the_device_needs_no_training_packages(path: Path) -> None:
    heavy = {"torch", "lightning", "onnx", "brevitas"}
    found = {name.split(".")[0] for name in imports(path, at_module_level=True)} & heavy
    assert found <= ({"torch"} if named(path) == USES_TORCH else set())


def test_methods_are_imported_by_the_registry_and_each_other_alone() -> None:
    importers = {
        named(path)
        for path in sources(*FLOORS)
        for name in imports(path)
        if name.startswith("models.methods") and name != "models.methods.registry"
    }
    assert {path for path in importers if not path.startswith("models/methods/")} == set()


@pytest.mark.parametrize("path", sources("compiler", "models"), ids=named)
def test_nothing_is_probed_for_attributes(path: Path) -> None:
    """What a method has is declared; only exporters look at what foreign packages made."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    probes = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id in {"getattr", "hasattr"}]
    assert not probes or named(path).startswith("compiler/export/")


def room(module: str) -> str:
    """The package of a module below its floor, or the module itself on the ground of the floor."""
    parts = module.split(".")
    folder = ROOT.joinpath(*parts[:2])
    return ".".join(parts[:2]) if folder.is_dir() or folder.with_suffix(".py").is_file() else parts[0]


@pytest.mark.parametrize("floor", FLOORS)
def test_rooms_import_each_other_in_no_circle(floor: str) -> None:
    edges: dict[str, set[str]] = {}
    for path in sources(floor):
        own = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
        others = {room(name) for name in imports(path, at_module_level=True) if name.startswith(f"{floor}.")}
        edges.setdefault(own, set()).update(others - {own, floor})
    while True:
        done = [name for name, others in edges.items() if not others & edges.keys()]
        if not done:
            break
        for name in done:
            del edges[name]
    assert edges == {}
