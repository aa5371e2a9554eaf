from __future__ import annotations

import threading
import time

import av
import pytest

from sdk.media import Frame
from sdk.media.sources.frame_queue import FrameQueue

IMAGE = av.VideoFrame(2, 2, "rgb24")


def frame(index: int, *, restarted: bool = False, age_s: float = 0.0) -> Frame:
    return Frame(float(index), IMAGE, 0, 0.0, time.monotonic() - age_s, index, restarted)


def test_keeps_the_newest_live_frames() -> None:
    queue = FrameQueue(2, 9)
    for index in range(5):
        assert queue.put(frame(index), live=True)
    queue.end()
    assert [taken.index for taken in iter(queue.get, None)] == [3, 4]
    assert queue.drops == {"queue_full": 3, "stale": 0, "corrupt": 0}


def test_a_dropped_restart_is_inherited() -> None:
    queue = FrameQueue(1, 9)
    for index in range(3):
        queue.put(frame(index, restarted=index == 0), live=True)
    taken = queue.get()
    assert taken is not None and (taken.index, taken.restarted) == (2, True)


def test_skips_stale_live_frames_but_never_the_last() -> None:
    queue = FrameQueue(9, 0.5)
    queue.put(frame(0, restarted=True, age_s=2), live=True)
    queue.put(frame(1, age_s=1), live=True)
    taken = queue.get()
    assert taken is not None and (taken.index, taken.restarted) == (1, True)
    assert queue.drops["stale"] == 1


def test_frames_of_a_file_never_grow_stale() -> None:
    queue = FrameQueue(9, 0.5)
    queue.put(frame(0, age_s=60), live=False)
    queue.put(frame(1), live=False)
    taken = queue.get()
    assert taken is not None and taken.index == 0


def test_a_file_waits_for_room() -> None:
    queue = FrameQueue(1, 9)
    queue.put(frame(0), live=False)
    thread = threading.Thread(target=queue.put, args=(frame(1),), kwargs={"live": False})
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    queue.get()
    thread.join(2)
    assert not thread.is_alive()


def test_closing_wakes_everyone_and_takes_nothing_more() -> None:
    queue = FrameQueue(1, 9)
    queue.put(frame(0), live=False)
    thread = threading.Thread(target=queue.put, args=(frame(1),), kwargs={"live": False})
    thread.start()
    queue.close()
    thread.join(2)
    assert not thread.is_alive()
    assert queue.get() is None
    assert not queue.put(frame(2), live=True)


def test_the_error_comes_once_and_last() -> None:
    queue = FrameQueue(2, 9)
    queue.put(frame(0), live=False)
    queue.end(OSError("gone"))
    assert queue.get() is not None
    with pytest.raises(OSError, match="gone"):
        queue.get()
    assert queue.get() is None


def test_needs_room() -> None:
    with pytest.raises(ValueError, match="room for one"):
        FrameQueue(0, 1)
