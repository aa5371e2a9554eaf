"""Debians for aarch64 in folders, with Python and the SDK's real wheels or with Java, and qemu to run them.

Nothing is installed on this machine: packages are fetched as its apt is told to, and unpacked below the
user's cache. Needs Debian 12 or newer on x86-64 with ``mmdebstrap``, and its mirrors and PyPI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from runtimes.cache import cache_folder, whole_folder

PYTHON = "3.11"
"""Debian 12's."""
_SUITE, _NEWER = "bookworm", "bookworm-backports"
_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = "python3.11-minimal,libpython3.11-stdlib,libstdc++6"
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
WHEELS = ("numpy", "onnxruntime", "av", "pydantic", "pillow", "ai-edge-litert")


class MissingToolError(Exception):
    """A tool of this machine is missing."""


def aarch64_root() -> Path:
    """The Debian root with Python, made at the first call (a minute). Raises: MissingToolError."""
    return _root(f"{_SUITE}-arm64", _PACKAGES)


def aarch64_java() -> tuple[str, ...]:
    """The command of a Java for aarch64, under qemu; made at the first call. Raises: MissingToolError."""
    root = _root(f"{_SUITE}-arm64-java", "openjdk-17-jre-headless")
    java = root / "usr" / "lib" / "jvm" / "java-17-openjdk-arm64" / "bin" / "java"
    return (str(qemu()), "-cpu", "max", "-L", str(root), str(java))


def _root(name: str, packages: str) -> Path:
    folder = cache_folder("emulated") / name
    if not folder.is_dir():
        require("mmdebstrap")
        with whole_folder(folder) as growing:
            command = ["mmdebstrap", "--variant=extract", "--architectures=arm64", f"--include={packages}"]
            run_tool([*command, _SUITE, str(growing), _MIRROR])
            _make_links_relative(growing)
    return folder


def _make_links_relative(root: Path) -> None:
    """Links that start at the root's own top: qemu would follow them from this machine's."""
    for link in root.rglob("*"):
        if link.is_symlink() and link.readlink().is_absolute():
            target = root / link.readlink().relative_to("/")
            link.unlink()
            link.symlink_to(os.path.relpath(target, link.parent))


def qemu() -> Path:
    """qemu 10 for aarch64 programs: Debian 12's own, 7.2, crashes as ONNX Runtime is imported."""
    folder = cache_folder("emulated") / "qemu"
    if not folder.is_dir():
        with whole_folder(folder) as growing:
            unpack_newer(["qemu-user"], growing)
    return folder / "usr" / "bin" / "qemu-aarch64"


def wheels() -> Path:
    """The real aarch64 wheels of the SDK's libraries, unpacked for import."""
    folder = cache_folder("emulated") / "wheels-aarch64"
    if not folder.is_dir():
        with whole_folder(folder) as growing:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(growing)]
            command += ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp"]
            run_tool([*command, *(f"--platform={name}" for name in _PLATFORMS), *WHEELS])
    return folder


def run_aarch64(arguments: Sequence[str], paths: Sequence[Path]) -> str:
    """What Python for aarch64 prints, run with these arguments; ``paths`` come first on its path.

    Raises: AssertionError with what it said if it fails.
    """
    root = aarch64_root()
    python = root / "usr" / "bin" / f"python{PYTHON}"
    search = os.pathsep.join(map(str, (*paths, wheels())))
    command = [str(qemu()), "-cpu", "max", "-L", str(root), "-E", f"PYTHONPATH={search}"]
    done = subprocess.run([*command, str(python), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def unpack_newer(packages: Sequence[str], folder: Path) -> None:
    """Fetch packages of the newer suite, and of what they need all that this machine lacks; unpack them.

    With lists of apt's own, which touch no others. Raises: MissingToolError.
    """
    require("apt-get", "dpkg")
    lists = folder / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (lists / name).mkdir(parents=True)
    sources = lists / "sources.list"
    sources.write_text("".join(f"deb {_MIRROR} {suite} main\n" for suite in (_SUITE, _NEWER)))
    apt = ["apt-get", f"-oDir::Etc::sourcelist={sources}", "-oDir::Etc::sourceparts=/dev/null", "-qq"]
    apt += [f"-oDir::State::lists={lists}/lists", f"-oDir::Cache={lists}/cache", "-oDebug::NoLocking=1"]
    fetch = [
        "--download-only",
        "--reinstall",
        "--yes",
        "--no-install-recommends",
        f"--target-release={_NEWER}",
    ]
    run_tool([*apt, "update"])
    run_tool([*apt, *fetch, "install", *packages])
    for archive in (lists / "cache" / "archives").glob("*.deb"):
        run_tool(["dpkg", "-x", str(archive), str(folder)])
    shutil.rmtree(lists)


def require(*tools: str, package: str | None = None) -> None:
    """Raises: MissingToolError that names the package of the first of these tools that is missing."""
    for tool in tools:
        if shutil.which(tool) is None:
            raise MissingToolError(f"{tool} is missing: apt-get install {package or tool}")


def run_tool(command: Sequence[str], folder: Path | None = None) -> None:
    """Raises: MissingToolError with what it said if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise MissingToolError(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
