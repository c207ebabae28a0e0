from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pave_ros.frames import Frame, FrameBuffer, Taken, around

SECOND = 1_000_000_000


def stamps(frames: list[Frame]) -> list[int]:
    return [frame.stamp for frame in frames]


def taken(buffer: FrameBuffer) -> Taken:
    frame = buffer.take(0)
    assert frame is not None
    return frame


def test_the_history_holds_what_was_kept_and_what_was_passed_over_is_counted() -> None:
    buffer = FrameBuffer(capacity=3)
    for stamp in range(5):
        buffer.push(Frame(stamp))
    assert stamps(buffer.keep(taken(buffer))) == [4]
    assert buffer.take(0) is None, "nothing new"
    buffer.push(Frame(5))
    buffer.push(Frame(6))
    newest = taken(buffer)
    assert stamps(buffer.keep(newest)) == [4, 6], "what was passed over is no history"
    assert newest.passed_over == 1


def test_what_is_not_kept_takes_no_place() -> None:
    buffer = FrameBuffer(capacity=2)
    for stamp in range(5):
        buffer.push(Frame(stamp))
        frame = taken(buffer)
        if stamp not in (2, 3):
            history = buffer.keep(frame)
    assert stamps(history) == [1, 4]


@pytest.mark.parametrize("end", [FrameBuffer.clear, lambda buffer: buffer.push(Frame(0))])
def test_a_frame_of_before_a_reset_is_none_of_the_new_history(end: Callable[[FrameBuffer], Any]) -> None:
    buffer = FrameBuffer(capacity=3)
    for stamp in (8, 9):
        buffer.push(Frame(stamp))
        late = taken(buffer)
        if stamp == 8:
            buffer.keep(late)
    end(buffer)
    assert stamps(buffer.keep(late)) == [9]
    buffer.push(Frame(1))
    fresh = taken(buffer)
    assert fresh.resets == late.resets + 1
    assert stamps(buffer.keep(fresh)) == [1]


def test_backward_stamps_start_afresh() -> None:
    buffer = FrameBuffer(capacity=4)
    assert buffer.push(Frame(10 * SECOND)) == 0.0
    assert buffer.push(Frame(9 * SECOND)) == -1.0
    frame = taken(buffer)
    assert stamps(buffer.keep(frame)) == [9 * SECOND]
    assert (frame.passed_over, frame.resets) == (1, 1)


def test_equal_stamps_are_no_break() -> None:
    buffer = FrameBuffer(capacity=4)
    buffer.push(Frame(1))
    assert not buffer.push(Frame(1))


def test_gaps_longer_than_allowed_start_afresh() -> None:
    buffer = FrameBuffer(capacity=4, max_gap=0.5)
    buffer.push(Frame(0))
    assert buffer.push(Frame(SECOND // 2)) == 0.0
    assert buffer.push(Frame(2 * SECOND)) == 1.5
    assert len(buffer) == 1
    unlimited = FrameBuffer(capacity=4)
    unlimited.push(Frame(0))
    assert not unlimited.push(Frame(1000 * SECOND))


def test_frames_that_are_seen_and_not_pushed_bridge_a_gap_or_make_one() -> None:
    buffer = FrameBuffer(capacity=4, max_gap=0.5)
    broke = []
    for tenth in (0, 4, 8, 12, 20, 24, 28):
        buffer.see(tenth * SECOND // 10)
        if tenth % 12 == 0:
            broke.append(buffer.push(Frame(tenth * SECOND // 10), seen=True))
    assert broke == [0.0, 0.0, 0.8], "it came after one that was never pushed"


def test_what_was_not_kept_may_make_a_gap() -> None:
    buffer = FrameBuffer(capacity=4, max_gap=0.5)
    for tenth, expected in ((0, [0]), (1, []), (2, []), (3, [0, 3]), *((i, []) for i in range(4, 9)), (9, [9])):
        buffer.push(Frame(tenth * SECOND // 10))
        frame = taken(buffer)
        if expected:
            assert stamps(buffer.keep(frame)) == [number * SECOND // 10 for number in expected]


def test_a_slow_machine_makes_no_gap() -> None:
    buffer = FrameBuffer(capacity=4, max_gap=0.5)
    for tenth in range(20):
        buffer.push(Frame(tenth * SECOND // 10))
        if tenth % 8 == 0:
            history = buffer.keep(taken(buffer))
    assert stamps(history) == [0, 8 * SECOND // 10, 16 * SECOND // 10]


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
        (*_, newest) = buffer.keep(taken(buffer))
        newest.image = np.zeros((10, 10, 3), np.uint8)
        newest.features = (np.zeros(100, np.float32), np.zeros(50, np.float32))
        assert buffer.nbytes == min(stamp + 1, 3) * (300 + 600)


def test_capacity_has_to_be_positive() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FrameBuffer(capacity=0)


def test_windows_end_where_the_width_changes() -> None:
    frames = [Frame(i, image=np.zeros((4, width, 3), np.uint8)) for i, width in enumerate((6, 8, 8, 6))]
    assert stamps(around(frames, 1, 3)) == [1, 1, 2] and stamps(around(frames, 2, 3)) == [1, 2, 2]


def test_a_frame_of_before_a_gap_that_is_pushed_late_is_no_break() -> None:
    buffer = FrameBuffer(capacity=4, max_gap=1.0)
    for second in (1, 2, 10):
        buffer.see(second * SECOND)
    assert [buffer.push(Frame(second * SECOND), seen=True) for second in (1, 2, 10)] == [0.0, 0.0, 8.0]


def test_what_waits_when_all_is_forgotten_was_not_passed_over() -> None:
    buffer = FrameBuffer(capacity=2)
    buffer.push(Frame(1))
    buffer.clear()
    buffer.push(Frame(2))
    assert taken(buffer).passed_over == 0


def test_the_last_of_two_breaks_counts() -> None:
    buffer = FrameBuffer(capacity=4, max_gap=1.0)
    buffer.push(Frame(10 * SECOND))
    for second in (20, 5):  # a gap, then a bag that starts over, and nothing is pushed in between
        buffer.see(second * SECOND)
    assert buffer.push(Frame(5 * SECOND), seen=True) == -15.0
