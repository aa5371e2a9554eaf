"""One stored weight set for all bit-widths of a network: its 8-bit codes, kept as two planes of 4 bits.

The code at b bits is the 8-bit code without its low bits, so 4 and 2 bits are read off the high plane
alone. A device computes with int8 whatever the width: at 8 bits with the code ``q`` itself, below with
``2 q + 1``, which is odd and so the center of the codes that ``q`` stands for (4 bits: -15..15, 2 bits:
-3..3); the scales in each graph take up the factor.

In a plane, the first half of a tensor's codes lie in the upper and the second half in the lower 4 bits of
its bytes. Tensors that are not nested lie in the high plane, a byte a code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import Bits, Store, StoredTensor

Codes = NDArray[np.int8]
_Bytes = NDArray[np.uint8]
_FOUR, _LOW = np.uint8(4), np.uint8(15)


def narrowed(codes: Codes, bits: Bits) -> Codes:
    """What a graph of ``bits`` computes with in place of the 8-bit ``codes``; int8, of the same shape."""
    return codes if bits == 8 else _centered(codes >> np.int8(8 - bits))


def write_planes(store: Store, codes: Mapping[str, Codes], folder: Path) -> None:
    """Write the 8-bit ``codes`` of the store's tensors, by name, as its two files in ``folder``.

    Raises: KeyError if a tensor has no codes, ValueError if they are not int8 of its shape.
    """
    with (folder / store.high).open("wb") as high, (folder / store.low).open("wb") as low:
        for tensor in store.tensors:
            values = codes[tensor.name]
            if values.dtype != np.int8 or values.shape != tensor.shape:
                found = f"{values.dtype} {values.shape}"
                raise ValueError(f"tensor {tensor.name}: {found} where int8 {tensor.shape} is stored")
            flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            if tensor.nested:
                high.write(_packed(flat >> _FOUR).data)
                low.write(_packed(flat & _LOW).data)
            else:
                high.write(flat.data)


def read_codes(store: Store, folder: Path, bits: Bits) -> Iterator[tuple[StoredTensor, Codes]]:
    """Each tensor as a graph of ``bits`` computes with it, in the store's order, from its planes' files.

    One tensor is in memory at a time, if the caller keeps none.
    """
    planes = [_mapped(folder / file) for file in store.planes(bits)]
    starts = [0] * len(planes)
    for tensor in store.tensors:
        sizes = (tensor.high_bytes, tensor.low_bytes)
        parts = [
            plane[start : start + size] for plane, start, size in zip(planes, starts, sizes, strict=False)
        ]
        starts = [start + size for start, size in zip(starts, sizes, strict=False)]
        flat = _unpacked(parts, tensor.size, bits) if tensor.nested else parts[0].view(np.int8)
        yield tensor, flat.reshape(tensor.shape)


def write_codes(store: Store, folder: Path, bits: Bits, destination: Path) -> None:
    """Write the file that graphs of ``bits`` map: the tensors one after the other, a byte a code."""
    with destination.open("wb") as file:
        for _, codes in read_codes(store, folder, bits):
            file.write(codes.data)


def _packed(nibbles: _Bytes) -> _Bytes:
    """Values below 16 (n,) two to a byte: ((n + 1) // 2,)."""
    half = (len(nibbles) + 1) // 2
    packed = nibbles[:half] << _FOUR
    packed[: len(nibbles) - half] |= nibbles[half:]
    return packed


def _unpacked(parts: list[_Bytes], size: int, bits: Bits) -> Codes:
    """The int8 tensor (size,) of ``bits`` from its part of the high plane, and of the low one at 8 bits."""
    half = len(parts[0])
    codes = np.empty(size, np.uint8)
    first, second = codes[:half], codes[half:]
    np.bitwise_and(parts[0], ~_LOW, out=first)
    np.left_shift(parts[0][: len(second)], _FOUR, out=second)
    if bits == 8:
        first |= parts[1] >> _FOUR
        second |= parts[1][: len(second)] & _LOW
        return codes.view(np.int8)
    signed = codes.view(np.int8)
    signed >>= np.int8(8 - bits)
    return _centered(signed)


def _centered(codes: Codes) -> Codes:
    return (codes << np.int8(1)) | np.int8(1)


def _mapped(path: Path) -> _Bytes:
    if path.stat().st_size == 0:  # a network of whole tensors alone has nothing in the low plane
        return np.empty(0, np.uint8)
    return np.memmap(path, np.uint8, "r")
