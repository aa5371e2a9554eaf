"""Two planes of 4 bits hold the 8-bit codes, and every narrower code is read off the first alone."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.spec import Bits, Store, StoredTensor
from runtimes.weight_store import Codes, narrowed, read_codes, write_codes, write_planes

SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple)
TENSORS = st.lists(st.tuples(SHAPES, st.booleans()), min_size=1, max_size=4)
WIDTHS: tuple[Bits, ...] = (8, 4, 2)


def store_of(tensors: list[tuple[tuple[int, ...], bool]]) -> Store:
    stored = (
        StoredTensor(name=f"w{i}", shape=shape, nested=nested) for i, (shape, nested) in enumerate(tensors)
    )
    return Store(name="net", high="net.high", low="net.low", tensors=tuple(stored))


def random_codes(store: Store, seed: int = 0) -> dict[str, Codes]:
    random = np.random.default_rng(seed)
    return {tensor.name: random.integers(-128, 128, tensor.shape, np.int8) for tensor in store.tensors}


@given(TENSORS, st.integers(0, 2**32))
def test_every_width_is_read_back(tensors: list[tuple[tuple[int, ...], bool]], seed: int) -> None:
    store = store_of(tensors)
    codes = random_codes(store, seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_planes(store, codes, folder)
        assert (folder / store.high).stat().st_size == sum(tensor.high_bytes for tensor in store.tensors)
        assert (folder / store.low).stat().st_size == sum(tensor.low_bytes for tensor in store.tensors)
        for bits in WIDTHS:
            read = list(read_codes(store, folder, bits))
            assert [tensor for tensor, _ in read] == list(store.tensors)
            for tensor, values in read:
                wanted = narrowed(codes[tensor.name], bits) if tensor.nested else codes[tensor.name]
                assert values.dtype == np.int8
                np.testing.assert_array_equal(values, wanted)


@given(SHAPES, st.integers(0, 2**32))
def test_narrower_codes_are_the_shifted_8_bit_codes(shape: tuple[int, ...], seed: int) -> None:
    store = store_of([(shape, True)])
    codes = random_codes(store, seed)
    with TemporaryDirectory() as name:
        write_planes(store, codes, Path(name))
        (Path(name) / store.low).unlink()
        for bits in (4, 2):
            [(_, values)] = read_codes(store, Path(name), bits)
            np.testing.assert_array_equal((values.astype(int) - 1) // 2, codes["w0"] >> (8 - bits))


def test_narrow_codes_are_odd_and_lie_around_zero() -> None:
    every = np.arange(-128, 128, dtype=np.int8)
    assert set(narrowed(every, 4).tolist()) == set(range(-15, 16, 2))
    assert set(narrowed(every, 2).tolist()) == {-3, -1, 1, 3}
    np.testing.assert_array_equal(narrowed(every, 8), every)


@pytest.mark.parametrize("bits", WIDTHS)
def test_codes_are_written_tensor_after_tensor(tmp_path: Path, bits: Bits) -> None:
    store = store_of([((3, 5), True), ((4,), False), ((7,), True)])
    codes = random_codes(store)
    write_planes(store, codes, tmp_path)
    write_codes(store, tmp_path, bits, tmp_path / "codes")
    written = np.fromfile(tmp_path / "codes", np.int8)
    wanted = [narrowed(codes["w0"], bits).ravel(), codes["w1"], narrowed(codes["w2"], bits)]
    np.testing.assert_array_equal(written, np.concatenate(wanted))


def test_codes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    store = store_of([((2, 3), True)])
    with pytest.raises(ValueError, match=r"tensor w0: int8 \(3, 2\) where int8 \(2, 3\)"):
        write_planes(store, {"w0": np.zeros((3, 2), np.int8)}, tmp_path)
    with pytest.raises(ValueError, match="tensor w0: int64"):
        write_planes(store, {"w0": np.zeros((2, 3), np.int64)}, tmp_path)  # type: ignore[dict-item]


def test_transposed_codes_are_stored_by_value(tmp_path: Path) -> None:
    store = store_of([((5, 3), True)])
    codes = random_codes(store_of([((3, 5), True)]))["w0"].T
    write_planes(store, {"w0": codes}, tmp_path)
    [(_, values)] = read_codes(store, tmp_path, 8)
    np.testing.assert_array_equal(values, codes)
