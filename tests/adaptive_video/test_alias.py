"""The alias package, and what stands in the way of the names that it stands for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import adaptive_video
import sdk

ROOT = Path(adaptive_video.__file__).parents[1]


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a program of its own, in a folder that comes before the installed packages.

    Editable installs find submodules by a finder of their own, which hides what an ordinary one does.
    """
    begin = (
        f"import sys; sys.path[:0] = [{str(folder)!r}]; sys.path.append({str(ROOT)!r})\n"
        "sys.meta_path[:] = [finder for finder in sys.meta_path if 'Editable' not in str(finder)]\n"
    )
    arguments = [sys.executable, "-P", "-c", begin + code]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd=folder)


def package(folder: Path, name: str, text: str = "") -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


def test_it_has_the_public_names() -> None:
    assert set(sdk.__all__) <= set(dir(adaptive_video))
    for name in sdk.__all__:
        assert getattr(adaptive_video, name) is getattr(sdk, name)
    assert adaptive_video.__version__ == sdk.__version__


@pytest.mark.parametrize("name", ["runtimes", "sdk"])
def test_it_works_beside_a_folder_of_the_same_name(tmp_path: Path, name: str) -> None:
    package(tmp_path, name)
    done = python("from adaptive_video import StreamRecognizer; print(StreamRecognizer.__module__)", tmp_path)
    assert (done.stdout.strip(), done.returncode) == ("sdk.recognizer", 0), done.stderr


def test_sdk_names_the_folder_that_is_in_its_way(tmp_path: Path) -> None:
    package(tmp_path, "runtimes")
    done = python("from sdk import Budget", tmp_path)
    assert done.returncode == 1
    expected = f"ImportError: runtimes: is {tmp_path / 'runtimes'}, not adaptive-video's; rename that folder"
    assert expected in done.stderr.splitlines()[-1]


def test_it_refuses_what_was_imported_before_it(tmp_path: Path) -> None:
    package(tmp_path, "runtimes")
    done = python("import runtimes, adaptive_video", tmp_path)
    assert "runtimes: the one imported is" in done.stderr.splitlines()[-1]


def test_another_package_installed_over_sdk_is_named(tmp_path: Path) -> None:
    for name in ("adaptive_video", "runtimes"):
        package(tmp_path, name, (ROOT / name / "__init__.py").read_text())
    package(tmp_path, "sdk", "value = 1")
    done = python("import adaptive_video", tmp_path)
    assert "another package's sdk was installed over adaptive-video's" in done.stderr.splitlines()[-1]
