"""What an ExecuTorch program says of itself: its methods, and the backends that they are delegated to."""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from pathlib import Path
from typing import Any

# Places of fields in their tables, in the order of the format's schema.
_PROGRAM_PLANS = 1
_PLAN_NAME, _PLAN_DELEGATES = 0, 7
_DELEGATE_ID = 0


def delegates(path: Path) -> dict[str, dict[str, int]]:
    """For each method of a program how many delegates it has, by the name of their backend.

    Raises: OSError for a file that cannot be read, ValueError for one that is not a program.
    """
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file
            raise ValueError(f"{path.name} is empty") from None
        with content:
            return _delegates(content)


def _delegates(content: mmap.mmap) -> dict[str, dict[str, int]]:
    if content[4:6] != b"ET":
        raise ValueError("the file is no ExecuTorch program")
    try:
        plans = _tables(content, _table(content, 0), _PROGRAM_PLANS)
        return {
            _text(content, plan, _PLAN_NAME): dict(
                Counter(
                    _text(content, delegate, _DELEGATE_ID)
                    for delegate in _tables(content, plan, _PLAN_DELEGATES)
                )
            )
            for plan in plans
        }
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError("the file is a damaged ExecuTorch program") from error


def _number(content: mmap.mmap, form: str, place: int) -> Any:
    (value,) = struct.unpack_from(form, content, place)
    return value


def _table(content: mmap.mmap, place: int) -> int:
    """Where the table, text or vector is that the offset at ``place`` points to."""
    return place + int(_number(content, "<I", place))


def _field(content: mmap.mmap, table: int, field: int) -> int | None:
    """Where a table has a field; None if it has not."""
    layout = table - int(_number(content, "<i", table))
    entry = 4 + 2 * field
    if entry >= int(_number(content, "<H", layout)):
        return None
    offset = int(_number(content, "<H", layout + entry))
    return table + offset if offset else None


def _tables(content: mmap.mmap, table: int, field: int) -> list[int]:
    """Where the tables are that a field of a table lists."""
    place = _field(content, table, field)
    if place is None:
        return []
    vector = _table(content, place)
    count = int(_number(content, "<I", vector))
    if count * 4 > len(content):
        raise struct.error("a vector longer than the file")
    return [_table(content, vector + 4 + 4 * i) for i in range(count)]


def _text(content: mmap.mmap, table: int, field: int) -> str:
    place = _field(content, table, field)
    if place is None:
        return ""
    start = _table(content, place)
    return content[start + 4 : start + 4 + int(_number(content, "<I", start))].decode()
