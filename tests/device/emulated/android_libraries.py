"""Android's own ExecuTorch libraries, such that a JVM of this machine loads them.

They are in two npm packages: ``libexecutorch.so`` (with XNNPACK and Vulkan) and its Java classes in one,
``libfbjni.so`` and ``libc++_shared.so``, which it needs, in the other. They were linked against bionic, whose
symbols have versions that glibc has not: these tags are dropped. What bionic has and glibc has not is in
android/bionic.c; Java classes that come from further packages are stood in for by those next to it.
"""

from __future__ import annotations

import shutil
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from runtimes.cache import cache_folder, whole_folder
from tests.device.emulated.root import require, run_tool

VERSIONS = {"react-native-executorch": "0.9.3", "react-native": "0.70.15"}
"""Later ones hold no libraries: they download them when an app is built."""
SOURCES = Path(__file__).parent / "android"
COMPILERS = {"x86_64": "gcc", "arm64-v8a": "aarch64-linux-gnu-gcc"}
"""What builds the shim, by Android's name of an architecture."""
_COMPILER_PACKAGES = {"x86_64": "gcc", "arm64-v8a": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"}

_EXECUTORCH = "package/third-party/android/libs/executorch/{abi}/libexecutorch.so"
_CLASSES = "package/android/libs/classes.jar"
_ARCHIVE = "package/android/com/facebook/react/react-native/{version}/react-native-{version}-release.aar"
_BIONIC = ("libm.so", "libdl.so", "liblog.so", "libandroid.so")
"""Android libraries that the shim, itself ``libc.so``, stands for as well."""

_DYNAMIC = 2
_VERSION_TAGS = (0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF)
"""DT_VERSYM, DT_VERDEF, DT_VERDEFNUM, DT_VERNEED and DT_VERNEEDNUM."""


class AndroidLibraries(NamedTuple):
    """The folder of all libraries, and what Java finds its classes in."""

    folder: Path
    classes: tuple[Path, ...]


def android_libraries(abi: str, folder: Path) -> AndroidLibraries:
    """The libraries for an architecture, with the shim and the Java classes built into ``folder``.

    Raises: MissingToolError.
    """
    require(COMPILERS[abi], package=_COMPILER_PACKAGES[abi])
    require("java", "javac", package="default-jdk-headless")
    fetched = _fetched(abi)
    libraries, classes = folder / abi, folder / "classes"
    libraries.mkdir(parents=True)
    for library in fetched.glob("*.so"):
        (libraries / library.name).symlink_to(library)
    _build_shim(abi, libraries)
    jar = fetched / "classes.jar"
    sources = map(str, SOURCES.glob("*.java"))
    run_tool(["javac", "-nowarn", "-proc:none", "-cp", str(jar), "-d", str(classes), *sources])
    return AndroidLibraries(libraries, (classes, jar))


def _build_shim(abi: str, folder: Path) -> None:
    headers = Path(shutil.which("javac") or "").resolve().parents[1] / "include"
    command = [COMPILERS[abi], "-shared", "-fPIC", "-O1", "-fno-builtin", "-Wall", "-Wextra", "-Werror"]
    command += [
        f"-I{headers}",
        f"-I{headers / 'linux'}",
        "-Wl,-soname,libc.so",
        "-o",
        str(folder / "libc.so"),
    ]
    run_tool([*command, str(SOURCES / "bionic.c")])
    for name in _BIONIC:
        (folder / name).symlink_to("libc.so")


def _fetched(abi: str) -> Path:
    """The libraries of an architecture and the Java classes, fetched at the first call (113 MB)."""
    folder = cache_folder("emulated") / f"android-{abi}"
    if not folder.is_dir():
        require("npm")
        with whole_folder(folder) as growing:
            for name, version in VERSIONS.items():
                run_tool(["npm", "pack", "--silent", f"{name}@{version}"], folder=growing)
            _unpack(abi, growing)
            for library in growing.glob("*.so"):
                library.write_bytes(_without_versions(library.read_bytes()))
    return folder


def _unpack(abi: str, folder: Path) -> None:
    """Take what is wanted out of the packages, and drop these."""
    executorch, react = (folder / f"{name}-{version}.tgz" for name, version in VERSIONS.items())
    for member in (_EXECUTORCH.format(abi=abi), _CLASSES):
        _take(executorch, member, folder)
    archive = _take(react, _ARCHIVE.format(version=VERSIONS["react-native"]), folder)
    with zipfile.ZipFile(archive) as members:
        for name in ("libfbjni.so", "libc++_shared.so"):
            (folder / name).write_bytes(members.read(f"jni/{abi}/{name}"))
    for used in (executorch, react, archive):
        used.unlink()


def _take(package: Path, member: str, folder: Path) -> Path:
    taken = folder / Path(member).name
    with tarfile.open(package) as members:
        file = members.extractfile(member)
        assert file is not None, f"{package.name} has no {member}"
        taken.write_bytes(file.read())
    return taken


def _without_versions(library: bytes) -> bytes:
    """A 64-bit ELF library whose symbols ask for no versions, and have none."""
    data = bytearray(library)
    (headers,), (number,) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<H", data, 56)
    for header in range(headers, headers + 56 * number, 56):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", data, header)
        if kind == _DYNAMIC:
            entries = struct.iter_unpack("<QQ", data[offset : offset + size])
            kept = [entry for entry in entries if entry[0] not in _VERSION_TAGS]
            table = b"".join(struct.pack("<QQ", *entry) for entry in kept)
            data[offset : offset + size] = table.ljust(size, b"\0")
    return bytes(data)
