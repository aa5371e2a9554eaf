"""Vulkan on the CPU: mesa's lavapipe, below the user's cache. It says what a GPU would compute, not how fast.

Debian 12's own mesa, 22.3, is too old for some of what runs on it.
"""

from __future__ import annotations

from pathlib import Path

from runtimes.cache import cache_folder, whole_folder
from tests.device.emulated.root import unpack_newer

_PACKAGES = ("mesa-vulkan-drivers", "libvulkan1")


def lavapipe_environment() -> dict[str, str]:
    """What a process is started with to find it, and it alone. Raises: MissingToolError."""
    folder = cache_folder("emulated") / "mesa"
    if not folder.is_dir():
        with whole_folder(folder) as growing:
            unpack_newer(_PACKAGES, growing)
            # Android's name of the same library.
            (_libraries(growing) / "libvulkan.so").symlink_to("libvulkan.so.1")
    (driver,) = (folder / "usr" / "share" / "vulkan" / "icd.d").glob("lvp_icd*.json")
    files = {"VK_ICD_FILENAMES": str(driver), "VK_DRIVER_FILES": str(driver)}
    return {**files, "LD_LIBRARY_PATH": str(_libraries(folder))}


def _libraries(folder: Path) -> Path:
    return folder / "usr" / "lib" / "x86_64-linux-gnu"
