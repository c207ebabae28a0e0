from __future__ import annotations

import threading

import numpy as np
import pytest

from pave_ros.frames import Frame, FrameBuffer, around

SECOND = 1_000_000_000


def stamps(frames: list[Frame]) -> list[int]:
    return [frame.stamp for frame in frames]


def test_take_gives_the_history_and_counts_what_was_passed_over() -> None:
    buffer = FrameBuffer(capacity=3)
    for stamp in range(5):
        buffer.push(Frame(stamp))
    assert buffer.take(0) is not None
    taken = buffer.take(0)
    assert taken is None, "nothing new"
    buffer.push(Frame(5))
    buffer.push(Frame(6))
    taken = buffer.take(0)
    assert taken is not None
    frames, dropped = taken
    assert stamps(frames) == [4, 6], "what was passed over is no history"
    assert dropped == 1


def test_backward_stamps_start_afresh() -> None:
    buffer = FrameBuffer(capacity=4)
    assert not buffer.push(Frame(10 * SECOND))
    assert buffer.push(Frame(9 * SECOND))
    frames, dropped = buffer.take(0) or ([], 0)
    assert stamps(frames) == [9 * SECOND]
    assert (dropped, buffer.resets) == (1, 1)


def test_equal_stamps_are_no_break() -> None:
    buffer = FrameBuffer(capacity=4)
    buffer.push(Frame(1))
    assert not buffer.push(Frame(1))


def test_gaps_longer_than_allowed_start_afresh() -> None:
    buffer = FrameBuffer(capacity=4, max_gap=0.5)
    buffer.push(Frame(0))
    assert not buffer.push(Frame(SECOND // 2))
    assert buffer.push(Frame(2 * SECOND))
    assert len(buffer) == 1
    unlimited = FrameBuffer(capacity=4)
    unlimited.push(Frame(0))
    assert not unlimited.push(Frame(1000 * SECOND))


def test_clear_forgets_what_waits() -> None:
    buffer = FrameBuffer(capacity=2)
    buffer.push(Frame(1))
    buffer.clear()
    assert len(buffer) == 0
    assert buffer.take(0) is None
    buffer.push(Frame(0))
    assert buffer.take(0) is not None, "an earlier stamp after clear is no break"


def test_take_wakes_for_a_frame_and_for_wake() -> None:
    buffer = FrameBuffer(capacity=2)
    timer = threading.Timer(0.05, lambda: buffer.push(Frame(1)))
    timer.start()
    assert buffer.take(timeout=10) is not None
    waker = threading.Timer(0.05, buffer.wake)
    waker.start()
    assert buffer.take(timeout=10) is None
    timer.join()
    waker.join()


@pytest.mark.parametrize(
    ("index", "size", "window"),
    [
        (2, 3, [1, 2, 3]),
        (-1, 3, [3, 4, 4]),
        (0, 3, [0, 0, 1]),
        (1, 5, [0, 0, 1, 2, 3]),
        (4, 5, [2, 3, 4, 4, 4]),
        (3, 1, [3]),
    ],
)
def test_windows_end_where_the_video_ends(index: int, size: int, window: list[int]) -> None:
    frames = [Frame(stamp, image=np.zeros((4, 6, 3), np.uint8)) for stamp in range(5)]
    assert stamps(around(frames, index, size)) == window


def test_windows_end_where_the_size_changes() -> None:
    sizes = [(4, 6), (8, 6), (8, 6), (8, 6), (4, 6)]
    frames = [Frame(i, image=np.zeros((*size, 3), np.uint8)) for i, size in enumerate(sizes)]
    assert stamps(around(frames, 1, 3)) == [1, 1, 2]
    assert stamps(around(frames, 3, 5)) == [1, 2, 3, 3, 3]


def test_the_memory_of_the_history_is_bounded() -> None:
    buffer = FrameBuffer(capacity=3)
    for stamp in range(20):
        buffer.push(Frame(stamp))
        (*_, newest), _ = buffer.take(0) or ([], 0)
        newest.image = np.zeros((10, 10, 3), np.uint8)
        newest.features = (np.zeros(100, np.float32), np.zeros(50, np.float32))
        assert buffer.nbytes == min(stamp + 1, 3) * (300 + 600)


def test_capacity_has_to_be_positive() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FrameBuffer(capacity=0)
