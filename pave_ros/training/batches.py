"""Batches of training pictures, prepared by processes beside the training."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pave_ros.interruptions import uninterrupted
from pave_ros.training.target import Target

Batch = tuple[Tensor, list[Target], list[int]]  # Pictures, their people, and their numbers.


class Samples(Protocol):
    """An endless supply of training pictures: number `index` is the same in every process and every run."""

    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]:
        """A picture (3, H, W) uint8 RGB and its people, or a clip (T, 3, H, W) and those of its middle frame."""


@dataclass(frozen=True)
class Failed:
    """A picture that could not be made, and why."""

    number: int
    reason: str


def batches(samples: Samples, numbers: Iterable[list[int]], workers: int, pin_memory: bool) -> Iterator[Batch | Failed]:
    """The batches of these pictures, one after the other.

    Args:
        samples: the pictures.
        numbers: those of each batch.
        workers: processes that prepare them; 0 prepares them here.
        pin_memory: whether they go to a GPU.
    """
    # A hook that runs while workers are forked would swallow an interruption.
    with uninterrupted() as handlers, _without_threads_of_opencv():
        loader = DataLoader(
            _Numbered(samples),
            batch_sampler=numbers,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=pin_memory,
            worker_init_fn=partial(_start_worker, handlers),
        )
        return iter(loader)


@contextmanager
def _without_threads_of_opencv() -> Iterator[None]:
    """Forked workers would wait for ever for OpenCV's threads, which stay behind."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


class _Numbered(Dataset[tuple[int, Tensor, Target] | Failed]):
    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> tuple[int, Tensor, Target] | Failed:
        try:
            return index, *self.samples[index]
        except (ValueError, OSError, RuntimeError, cv2.error) as error:
            # Raised here, it would come out of the loader with the traceback of a worker in its message.
            return Failed(index, f"{error}")


def _collate(items: Sequence[tuple[int, Tensor, Target] | Failed]) -> Batch | Failed:
    for item in items:
        if isinstance(item, Failed):
            return item
    indices, images, targets = zip(*items, strict=True)
    return torch.stack(images), list(targets), list(indices)


def _start_worker(handlers: Mapping[signal.Signals, Any], _: int) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
