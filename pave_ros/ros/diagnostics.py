"""What the node counts and what it reports of itself on /diagnostics."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from pave_ros.ros.subscriber import PATIENCE

DETECTING = "detecting"
SHORTEST = 0.5  # Seconds that a rate is taken over at least.


@dataclass
class Statistics:
    """Running totals of a camera since the start; each is written by one thread only.

    Attributes:
        received: images that arrived.
        published: results.
        dropped: images passed over for newer ones, or for being older than max_age.
        too_old: those of them that were older than max_age.
        without_boxes: images passed over because their boxes did not come, where boxes are given.
        without_depth: results with people whose positions in metres could not be known, where depth is used.
        unreadable: images that held no picture.
        failed: images on which the model or something after it raised.
        inference: seconds spent in the model, in all.
        age: seconds between the images' stamps and their results, in all.
        people: in the newest result.
        memory: bytes that the history takes, with what a video model keeps of each image.
        problem: newest reason for an unreadable or failed image, or for a result without depth.
    """

    received: int = 0
    published: int = 0
    dropped: int = 0
    too_old: int = 0
    without_boxes: int = 0
    without_depth: int = 0
    unreadable: int = 0
    failed: int = 0
    inference: float = 0.0
    age: float = 0.0
    people: int = 0
    memory: int = 0
    problem: str = ""


@dataclass
class Reporter:
    """Turns the statistics, seen once a second, into diagnostics.

    Attributes:
        name: of the node, with its namespace, and of the camera where there are several.
        facts: what does not change while a model runs, shown as it is.
        state: one word or two for what the node is doing; `DETECTING` is the one that is judged by its results.
        error: why the node cannot work at all, when it cannot.
        advice: what to do when no images come.
        boxes_advice: what to do when no boxes come for them.
        depth_advice: what to do when no depth images come; empty where they do.
    """

    name: str
    statistics: Statistics
    facts: dict[str, str] = field(default_factory=dict)
    state: str = "unconfigured"
    error: str = ""
    advice: str = ""
    boxes_advice: str = "images come, but no boxes for them; remap `boxes` to your detector's topic"
    depth_advice: str = ""
    _time: float = field(default_factory=monotonic)
    _old: Statistics = field(default_factory=Statistics)  # at the beginning and
    _new: Statistics = field(default_factory=Statistics)  # at the end of the time that is reported
    _elapsed: float = 1.0  # over which
    _silent: float = 0.0

    def report(self) -> DiagnosticStatus:
        """The diagnostics of the time since the last call, or, where that was just now, of the time before it."""
        now = monotonic()
        if now - self._time >= SHORTEST:
            self._old, self._new = self._new, Statistics(**vars(self.statistics))
            self._elapsed, self._time = now - self._time, now
            waiting = self.state == DETECTING and self._new.received == self._old.received
            self._silent = self._silent + self._elapsed if waiting else 0.0
        new, old, elapsed = self._new, self._old, self._elapsed
        results = new.published - old.published
        level, message = self._judge(new, old, results / elapsed)
        values = {
            "state": self.state,
            "fps in": f"{(new.received - old.received) / elapsed:.1f}",
            "fps out": f"{results / elapsed:.1f}",
            "age of results (ms)": f"{(new.age - old.age) / results * 1e3:.1f}" if results else "",
            "inference (ms)": f"{(new.inference - old.inference) / results * 1e3:.1f}" if results else "",
            "people": "" if self._silent > PATIENCE else str(new.people),
            "history (MB)": f"{new.memory / 1e6:.1f}",
            "images received": str(new.received),
            "results": str(new.published),
            "dropped": str(new.dropped),
            "images without boxes": str(new.without_boxes),
            "results without depth": str(new.without_depth),
            "unreadable images": str(new.unreadable),
            "failed images": str(new.failed),
            "last problem": new.problem,
            **self.facts,
        }
        return DiagnosticStatus(
            level=level,
            name=f"{self.name.lstrip('/')}: pose estimation",
            message=message,
            hardware_id=self.facts.get("device", ""),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )

    def _judge(self, new: Statistics, old: Statistics, rate: float) -> tuple[bytes, str]:
        if self.error:
            return DiagnosticStatus.ERROR, self.error
        if self.state != DETECTING:
            return DiagnosticStatus.OK, self.state
        if new.failed > old.failed:
            return DiagnosticStatus.ERROR, new.problem
        if new.unreadable > old.unreadable:
            return DiagnosticStatus.WARN, new.problem
        if new.without_depth > old.without_depth:
            return DiagnosticStatus.WARN, new.problem
        if rate == 0 and new.too_old > old.too_old:
            return DiagnosticStatus.WARN, new.problem
        if rate == 0 and new.without_boxes > old.without_boxes:
            return DiagnosticStatus.WARN, self.boxes_advice
        if self._silent > PATIENCE:
            return DiagnosticStatus.WARN, self.advice or f"no image for {self._silent:.0f} s"
        if self.depth_advice:
            return DiagnosticStatus.WARN, self.depth_advice
        if self.facts.get("trained") == "no":
            return DiagnosticStatus.WARN, f"{rate:.1f} results per second of untrained weights: they mean nothing"
        return DiagnosticStatus.OK, f"{rate:.1f} results per second"
