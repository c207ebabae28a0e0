"""What people do with their upper bodies: waving, talking, drinking, as poses that change with time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pave_ros.synthetic.arrays import Array, Rng


@dataclass
class Upper:
    """What an activity asks of the body above the feet, in the terms of `body.P`.

    Attributes:
        arms: (2, 5) left, right; spine, head: (3,) pitch, roll, twist.
        drop, back: metres that the pelvis goes down and backwards.
    """

    arms: Array
    spine: Array = field(default_factory=lambda: np.zeros(3))
    head: Array = field(default_factory=lambda: np.zeros(3))
    drop: float = 0.0
    back: float = 0.0

    def towards(self, other: Upper, share: float) -> Upper:
        """A pose between this one (0) and the other (1)."""
        pairs = ((getattr(self, k), getattr(other, k)) for k in ("arms", "spine", "head", "drop", "back"))
        return Upper(*(a + (b - a) * share for a, b in pairs))


@dataclass(frozen=True)
class Manner:
    """One person's way of moving, drawn once: side of the better hand, pace, phases of small movements."""

    right_handed: bool
    pace: float
    stance: float
    phases: Array

    @classmethod
    def sample(cls, rng: Rng) -> Manner:
        return cls(
            bool(rng.random() < 0.75), rng.uniform(0.85, 1.15), rng.uniform(0.9, 1.25), rng.uniform(0, 2 * np.pi, 8)
        )

    def arms(self, better: tuple[float, ...], other: tuple[float, ...]) -> Array:
        """(2, 5) arms from those of the better and the other hand."""
        return np.array([other, better] if self.right_handed else [better, other])


_HANG = (0.04, 0.14, 0.15, 0.22, 0.05)


def idle(t: float, m: Manner) -> Upper:
    p = m.phases
    arms = np.array([_HANG, _HANG])
    arms[:, 0] += 0.03 * np.sin(0.9 * t + p[:2])
    head = np.array(
        [
            0.05 * np.sin(0.5 * t + p[2]),
            0.03 * np.sin(0.4 * t + p[3]),
            0.3 * np.sin(0.37 * t + p[4]) * np.sin(0.23 * t + p[5]),
        ]
    )
    return Upper(arms, np.array([0.02, 0.03 * np.sin(0.45 * t + p[6]), 0.05 * np.sin(0.3 * t + p[7])]), head)


def _wave(t: float, m: Manner) -> Upper:
    swing = 0.45 * np.sin(7.5 * t)
    return Upper(
        m.arms((0.5, 1.55, -0.5, 1.35 + swing, 0.15 * np.sin(7.5 * t + 1)), _HANG),
        np.array([0, -0.03, 0.0]),
        np.array([-0.05, 0.1, 0]),
    )


def _talk(t: float, m: Manner) -> Upper:
    a, b = np.sin(2.1 * t * m.pace + m.phases[0]), np.sin(1.7 * t * m.pace + m.phases[1])
    better = (0.35 + 0.2 * a, 0.25 + 0.1 * b, 0.35 + 0.3 * b, 1.45 + 0.3 * a, 0.2 * b)
    other = (0.25 + 0.12 * b, 0.2, 0.3, 1.1 + 0.35 * b, 0.1)
    nod = np.array([0.06 * np.sin(3 * t), 0.05 * a, 0.2 * np.sin(0.7 * t + m.phases[2])])
    return Upper(m.arms(better, other), np.array([0.03, 0.03 * b, 0.08 * a]), nod)


def _phone(t: float, m: Manner) -> Upper:
    return Upper(
        m.arms((0.45, 0.12, 0.55, 1.75, -0.1), (0.3, 0.1, 0.6, 1.6 + 0.05 * np.sin(5 * t), 0)),
        np.array([0.08, 0, 0]),
        np.array([0.42, 0, 0.04 * np.sin(t)]),
    )


def _call(t: float, m: Manner) -> Upper:
    return Upper(
        m.arms((0.95, 0.55, 0.35, 2.35, 0.1), _HANG),
        np.array([0.0, 0.03, 0.1 * np.sin(0.6 * t)]),
        np.array([0.05, 0.12 if m.right_handed else -0.12, 0.25 * np.sin(0.5 * t)]),
    )


def _hips(t: float, m: Manner) -> Upper:
    arm = (-0.45, 0.62, 1.0, 1.35, 0.3)
    return Upper(
        np.array([arm, arm]),
        np.array([-0.02, 0.02 * np.sin(t), 0.05 * np.sin(0.5 * t)]),
        np.array([0, 0, 0.4 * np.sin(0.6 * t)]),
    )


def _cross(t: float, m: Manner) -> Upper:
    return Upper(
        m.arms((0.42, 0.12, 1.15, 1.7, 0.2), (0.5, 0.1, 1.1, 1.6, 0.2)),
        np.array([-0.03, 0, 0.04 * np.sin(t)]),
        np.array([0, 0, 0.3 * np.sin(0.4 * t)]),
    )


def _raise(t: float, m: Manner) -> Upper:
    lift = 2.75 + 0.2 * np.sin(2.2 * t)
    arm = (lift, 0.25, 0.0, 0.15 + 0.1 * np.sin(2.2 * t), 0)
    return Upper(np.array([arm, arm]), np.array([-0.08, 0.05 * np.sin(1.1 * t), 0]), np.array([-0.2, 0, 0]))


def _jacks(t: float, m: Manner) -> Upper:
    up = 0.5 - 0.5 * np.cos(4.6 * t)
    arm = (0.1, 0.15 + 2.5 * up, 0, 0.2, 0)
    return Upper(np.array([arm, arm]), drop=0.05 * abs(np.sin(4.6 * t)))


def _point(t: float, m: Manner) -> Upper:
    return Upper(
        m.arms((1.4 + 0.05 * np.sin(2 * t), 0.35 + 0.2 * np.sin(0.8 * t), 0, 0.12, 0), _HANG),
        np.array([0.02, 0, 0.12]),
        np.array([0, 0, 0.2]),
    )


def _clap(t: float, m: Manner) -> Upper:
    gap = 0.18 * np.sin(11 * t)
    arm = (0.75, 0.1 + gap / 2, 0.55 - gap, 1.25, 0.1)
    return Upper(np.array([arm, arm]), np.array([0.02, 0, 0]), np.array([-0.05, 0, 0]))


def _stretch(t: float, m: Manner) -> Upper:
    side = np.sin(0.9 * t)
    arm = (2.9, 0.05, 0.4, 0.7, 0)
    return Upper(np.array([arm, arm]), np.array([0, 0.4 * side, 0]), np.array([0, 0.2 * side, 0]))


def _drink(t: float, m: Manner) -> Upper:
    up = 0.5 - 0.5 * np.cos(np.clip(np.mod(t, 5) - 1, 0, 3) * 2 * np.pi / 3)
    return Upper(
        m.arms((0.35 + 0.65 * up, 0.2 + 0.15 * up, 0.5, 1.5 + 0.75 * up, 0.1), _HANG),
        np.array([-0.06 * up, 0, 0]),
        np.array([-0.15 * up, 0, 0]),
    )


def _bend(t: float, m: Manner) -> Upper:
    low = 0.5 - 0.5 * np.cos(min(t, 4.0) * 2 * np.pi / 4)
    arm = (0.1 + 1.15 * low, 0.1, 0.1, 0.2 + 0.1 * low, 0)
    return Upper(
        np.array([arm, arm]),
        np.array([1.35 * low, 0, 0]),
        np.array([0.2 * low, 0, 0]),
        drop=0.16 * low,
        back=0.15 * low,
    )


def _squat(t: float, m: Manner) -> Upper:
    low = 0.5 - 0.5 * np.cos(2.3 * t)
    arm = (0.2 + 1.3 * low, 0.15, 0.1, 0.15, 0)
    return Upper(
        np.array([arm, arm]),
        np.array([0.55 * low, 0, 0]),
        np.array([-0.3 * low, 0, 0]),
        drop=0.42 * low,
        back=0.22 * low,
    )


def _crouch(t: float, m: Manner) -> Upper:
    arm = (1.0, 0.15, 0.45, 0.75 + 0.1 * np.sin(3 * t), 0)
    return Upper(
        np.array([arm, arm]),
        np.array([0.55, 0, 0.1 * np.sin(t)]),
        np.array([-0.1, 0, 0.2 * np.sin(0.7 * t)]),
        drop=0.5,
        back=0.16,
    )


STANDING: dict[str, Callable[[float, Manner], Upper]] = {
    "idle": idle, "wave": _wave, "talk": _talk, "phone": _phone, "call": _call, "hips": _hips, "cross": _cross,
    "raise": _raise, "jacks": _jacks, "point": _point, "clap": _clap, "stretch": _stretch, "drink": _drink,
    "bend": _bend, "squat": _squat, "crouch": _crouch,
}  # fmt: skip
"""Activities on the spot: seconds since the start and the manner give the pose above the feet."""
SEATED = ("rest", "talk", "phone", "wave", "drink", "call", "clap")


def rest(t: float, m: Manner) -> Upper:
    arm = (0.42, 0.1, 0.1, 0.95, -0.2)
    return Upper(
        np.array([arm, arm]),
        np.array([0.05, 0, 0.04 * np.sin(0.5 * t)]),
        np.array([0.05, 0, 0.35 * np.sin(0.4 * t + m.phases[0])]),
    )
