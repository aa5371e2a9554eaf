"""What the README says of this repository is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import sdk

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_light_dependencies_are_all_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = [re.split(r"[<>=]", entry)[0] for entry in project["dependencies"]]
    assert f"**SDK** ({', '.join(names)}; no torch)" in README


def test_the_bundle_of_its_examples_is_made_by_its_commands() -> None:
    used = set(re.findall(r"[\w-]+\.bundle", README))
    made = re.findall(r"--out ([\w-]+\.bundle)", (ROOT / "Makefile").read_text("utf-8"))
    assert used == set(made) and "make demo" in README


def test_its_errors_are_public_names() -> None:
    assert set(re.findall(r"`(\w+Error)`", README)) <= set(sdk.__all__)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
