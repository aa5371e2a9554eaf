"""Dynamic energy, by a meter that counts what really ran."""

from __future__ import annotations

import time

import pytest

from sdk.power import AppMeter, MeterError, ModeledMeter
from sdk.power.dynamic import dynamic_energy


class Board:
    """2 W while idle, and some joules for each call."""

    def __init__(self, run_j: float = 0.01) -> None:
        self.run_j, self.runs, self.silent = run_j, 0, False

    def read(self) -> float | None:
        return None if self.silent else 2.0 * time.perf_counter() + self.runs * self.run_j

    def run(self) -> None:
        time.sleep(0.002)
        self.runs += 1

    def nothing(self) -> None:
        time.sleep(0.002)


def test_what_a_run_takes_beyond_the_idle_device() -> None:
    board = Board()
    energy = dynamic_energy(AppMeter(board.read, "the board", 0.01), (board.run, board.run), span_s=0.05)
    assert energy.idle_w == pytest.approx(2.0, rel=0.02)
    assert energy.run_mj == (pytest.approx(10.0, rel=0.05), pytest.approx(10.0, rel=0.05))


def test_what_is_not_told_apart_from_idle_is_not_known() -> None:
    board = Board(run_j=-0.001)
    energy = dynamic_energy(AppMeter(board.read, "the board", 0.01), (board.run,), span_s=0.05)
    assert energy.run_mj == (None,)


def test_a_model_counts_busy_time() -> None:
    energy = dynamic_energy(ModeledMeter(3.0, 5.0), (Board().nothing,), span_s=0.05)
    assert energy.idle_w == pytest.approx(3.0, rel=0.02)
    # Of 2.1 ms; on a machine with other work to do, a call takes longer.
    assert 0.9 * 5.0 * 2.1 < energy.run_mj[0] < 5 * 5.0 * 2.1


def test_a_meter_that_does_not_know() -> None:
    board = Board()
    meter = AppMeter(board.read, "the board", 0.01)
    board.silent = True
    with pytest.raises(
        MeterError, match=r"meter \(the board\): gives no energy: cannot be read: it gave None"
    ):
        dynamic_energy(meter, (board.run,), span_s=0.01)
    with pytest.raises(MeterError, match="no energies for this device"):
        dynamic_energy(ModeledMeter(3.0), (board.run,), span_s=0.01)
