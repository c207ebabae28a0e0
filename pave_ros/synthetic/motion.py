"""How people move: a visit is a walk in, some activities on the spot, and a walk out, as a pose for any time.

Feet are planned as steps on the ground and the legs reach for them, so that feet on the ground do not slide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pave_ros.synthetic.activities import SEATED, STANDING, Manner, Upper, idle, rest
from pave_ros.synthetic.arrays import Array, Rng
from pave_ros.synthetic.body import Build, P

_TICK = 1 / 60
_DUTY = {False: 0.3, True: 0.17}
"""Half of the share of a gait cycle during which a foot stands, walking and running."""
_LAG = 0.045
"""How much of a cycle a foot stands further back than under the hip, half way through its stance."""


@dataclass(frozen=True)
class Station:
    """A place where somebody may stop: (x, z) on the ground in metres, and a seat height if one can sit there,
    looking to `yaw`; who stands there looks mostly towards the camera, or away from it."""

    x: float
    z: float
    seat: float = 0.0
    yaw: float = 0.0
    away: bool = False


@dataclass(frozen=True)
class _Stay:
    start: float
    end: float
    activity: str
    seat: float


class Visit:
    """One person's time in the scene.

    Args:
        build: the person's proportions.
        entry, leave: (x, z) outside the picture where the visit starts and ends, metres.
        stops: where to go one after the other; with an activity at the last one unless it is only to be passed.
        passing: whether nobody stops: a walk, or a run where there are no stops.
        duration: seconds that the visit should take, kept as far as the way allows; then `end` tells it.
    """

    def __init__(
        self,
        rng: Rng,
        build: Build,
        entry: tuple[float, float],
        leave: tuple[float, float],
        stops: Sequence[Station],
        passing: bool,
        duration: float,
    ) -> None:
        self.build = build
        self.manner = Manner.sample(rng)
        self.running = not stops
        self._duty = _DUTY[self.running]
        self._hip = float(build.offsets[13, 0]) * self.manner.stance
        self._stays: list[_Stay] = []
        self._rows: list[Array] = [np.array([[*entry, self._towards(entry, leave), 0.25, 0.0]])]
        for stop in stops:
            self._walk((stop.x, stop.z))
        if stops and not passing:
            self._spend(rng, stops[-1], duration - self._elapsed() * 2 - 2)
        self._walk(leave)
        table = np.concatenate(self._rows)
        self._x, self._z, self._yaw, self._phase, self._speed = table.T
        self._times = np.arange(len(table)) * _TICK
        self.end = float(self._times[-1])
        still = np.flatnonzero(np.diff(self._phase, append=self._phase[-1]) == 0)
        self._halts = self._phase[still]
        self._halt_times = self._times[still]

    @staticmethod
    def _towards(a: tuple[float, float], b: tuple[float, float]) -> float:
        return float(np.arctan2(b[0] - a[0], b[1] - a[1]))

    def _elapsed(self) -> float:
        return sum(len(rows) for rows in self._rows) * _TICK

    def _move(self, x: Array, z: Array, yaw: Array, gait: Array, speed: Array) -> None:
        """Add rows to the plan; `gait` counts the cycles (two steps) since the last row, whole at the end."""
        n = len(yaw)
        phase = self._rows[-1][-1, 3] + gait
        self._rows.append(np.stack([np.broadcast_to(x, n), np.broadcast_to(z, n), yaw, phase, speed], 1))

    def _walk(self, goal: tuple[float, float]) -> None:
        x, z, yaw, *_ = self._rows[-1][-1]
        heading = self._towards((x, z), goal)
        self._turn(heading)
        yaw = self._rows[-1][-1, 2]
        length = float(np.hypot(goal[0] - x, goal[1] - z))
        legs = self.build.leg_length
        pace = (2.9 if self.running else 1.3) * self.manner.pace * np.sqrt(legs / 0.84)
        n = max(2, round((length / pace + 0.45) / _TICK))
        t = np.arange(1, n + 1) * _TICK
        speed = np.minimum(1, np.minimum(t, n * _TICK - t + _TICK) / 0.6)
        way = np.cumsum(speed)
        way /= way[-1]
        stride = (2.3 if self.running else 1.52) * legs * np.sqrt(self.manner.pace)
        self._move(
            x + (goal[0] - x) * way,
            z + (goal[1] - z) * way,
            np.full(n, yaw),
            max(1, np.ceil(length / stride - 0.1)) * (0.35 * t / t[-1] + 0.65 * way),
            pace * speed,
        )

    def _turn(self, yaw: float) -> None:
        x, z, now, *_ = self._rows[-1][-1]
        change = (yaw - now + np.pi) % (2 * np.pi) - np.pi
        if abs(change) < 0.05:
            return
        cycles = 2 if abs(change) > 1.7 else 1
        n = round(cycles * 0.85 / _TICK)
        u = np.arange(1, n + 1) / n
        yaws = now + change * u * u * (3 - 2 * u)
        self._move(np.full(1, x), np.full(1, z), yaws, cycles * u, 0.35 * np.sin(np.pi * u))

    def _spend(self, rng: Rng, station: Station, seconds: float) -> None:
        if station.seat:
            self._turn(station.yaw)
            self._stay(max(seconds, 5.0), str(rng.choice(SEATED)), station.seat)
            return
        seconds = max(seconds, 2.5)
        while seconds > 1.5:
            if rng.random() < 0.75:
                self._turn(
                    np.pi * station.away + float(np.clip(rng.normal(0, 0.9), -np.pi, np.pi))
                    if rng.random() < 0.75
                    else rng.uniform(-np.pi, np.pi)
                )
            length = min(rng.uniform(3, 7), seconds)
            self._stay(length, str(rng.choice(list(STANDING))), 0.0)
            seconds -= length + 0.6

    def _stay(self, seconds: float, activity: str, seat: float) -> None:
        start, last = self._elapsed(), self._rows[-1][-1]
        n = max(2, round(seconds / _TICK))
        row = last.copy()
        row[4] = 0
        self._rows.append(np.tile(row, (n, 1)))
        self._stays.append(_Stay(start, start + seconds, activity, seat))

    def place(self, t: float) -> tuple[float, float]:
        """(x, z) of the person at a time of the visit, metres."""
        return float(np.interp(t, self._times, self._x)), float(np.interp(t, self._times, self._z))

    def pose(self, t: float) -> Array:
        """The pose vector (P.SIZE,) so many seconds after the visit's start."""
        x, z, yaw, phase, speed = (
            float(np.interp(t, self._times, row)) for row in (self._x, self._z, self._yaw, self._phase, self._speed)
        )
        q = np.zeros(P.SIZE)
        (left_foot, left_slack), (right_foot, right_slack) = (self._foot(s, phase, speed) for s in (0, 1))
        feet, slack = np.stack([left_foot, right_foot]), np.array([left_slack, right_slack])
        upper, seated = self._upper(t, phase, speed)
        turn = 2 * np.pi * phase
        vigour = min(speed / 1.3, 1.6)
        sway = 0.022 * np.cos(turn) * min(vigour, 1)
        left, ahead = np.array([np.cos(yaw), -np.sin(yaw)]), np.array([np.sin(yaw), np.cos(yaw)])
        root = np.array([x, z]) + sway * left - upper.back * ahead
        q[P.ROOT] = root[0], self._height(root, left, feet, slack, upper.drop), root[1]
        if self.running:
            q[1] += 0.03 * np.cos(2 * turn) - 0.02
        q[P.YAW] = yaw
        q[P.PELVIS] = (
            0.04 * vigour * self.running + 0.05 * seated,
            0.03 * np.cos(turn) * min(vigour, 1),
            0.07 * vigour * np.sin(turn),
        )
        q[P.SPINE] = upper.spine
        q[P.HEAD] = upper.head
        q[P.ARMS] = upper.arms.ravel()
        q[P.FEET] = feet.ravel()
        return q

    def _height(self, root: Array, left: Array, feet: Array, slack: Array, drop: float) -> float:
        """Height of the pelvis joint at which neither leg is stretched further than its slack, lowered by `drop`."""
        reach = 0.985 * self.build.leg_length
        hip = float(self.build.offsets[13, 0])
        heights = []
        for sign, foot, more in zip((1, -1), feet, slack, strict=True):
            across = np.hypot(*(root + sign * hip * left - foot[[0, 2]]))
            heights.append(foot[1] + np.sqrt(max((reach + more) ** 2 - across**2, 0.04)))
        standing = self.build.ankle_height + reach
        return min(*heights, standing) - drop - float(self.build.offsets[13, 1])

    def _foot(self, side: int, phase: float, speed: float) -> tuple[Array, float]:
        """Ankle x, y, z, yaw and pitch of one foot (0 left, 1 right), and how many metres it may fall short of it:
        the heel comes up when the leg is left behind."""
        vigour = min(speed / 1.3, 1.5)
        psi = phase - 0.5 * side
        k = round(psi)
        d = psi - k
        if abs(d) <= self._duty:
            x, z, yaw = self._plant(side, k)
            late = _smooth((d - 0.02) / (self._duty - 0.02))
            pitch = vigour * (0.75 * late - 0.25 * max(-d - self._duty + 0.08, 0) / 0.08)
            lift, slack = 0.0, 0.05 * late * min(vigour, 1)
        else:
            u = ((d if d > 0 else d + 1) - self._duty) / (1 - 2 * self._duty)
            before = k if d > 0 else k - 1
            a, b = np.array(self._plant(side, before)), np.array(self._plant(side, before + 1))
            x, z, yaw = a + (b - a) * _smooth(u)
            pitch = vigour * (0.75 - u + 0.6 * np.sin(np.pi * u) * (1 - u))
            swing = np.sin(np.pi * u)
            lift = swing * (0.04 + 0.05 * vigour + 0.2 * (1 - u) * self.running)
            slack = (0.05 * (1 - u) + (0.4 if self.running else 0.05) * swing) * min(vigour, 1)
        heel = 0.13 * self.build.feet
        ahead = heel * (1 - np.cos(pitch)) if pitch > 0 else 0.0
        rise = heel * np.sin(pitch) if pitch > 0 else 0.05 * np.sin(-pitch)
        height = self.build.ankle_height + lift + rise
        return np.array([x + ahead * np.sin(yaw), height, z + ahead * np.cos(yaw), yaw, pitch]), slack

    def _plant(self, side: int, k: int) -> tuple[float, float, float]:
        """Where the k-th step of a foot stands: x, z, yaw."""
        middle = k + 0.5 * side
        i = int(np.searchsorted(self._halts, middle - self._duty))
        if i < len(self._halts) and self._halts[i] <= middle + self._duty:
            t = self._halt_times[i]
        else:
            t = float(np.interp(middle - _LAG, self._phase, self._times))
        x, z, yaw = (float(np.interp(t, self._times, row)) for row in (self._x, self._z, self._yaw))
        sign = -1 if side else 1
        width = self._hip * (0.75 if self.running else 0.95)
        return x + sign * width * np.cos(yaw), z - sign * width * np.sin(yaw), yaw + sign * 0.12

    def _upper(self, t: float, phase: float, speed: float) -> tuple[Upper, float]:
        """The pose above the feet, and how far the person is seated, 0..1."""
        m = self.manner
        upper = idle(t, m)
        vigour = min(speed / 1.3, 1.3)
        if speed > 0:
            upper = upper.towards(self._stride(t, phase, vigour), min(1, 2 * vigour))
        for stay in self._stays:
            if not stay.start <= t <= stay.end:
                continue
            since, left = t - stay.start, stay.end - t
            if not stay.seat:
                share = _smooth(min(since, left) / 0.6)
                return upper.towards(STANDING[stay.activity](since, m), share), 0.0
            share = _smooth(min(since, left) / 1.1)
            act = _smooth((min(since, left) - 1.1) / 0.7)
            seated = rest(since, m).towards(
                rest(since, m) if stay.activity == "rest" else STANDING[stay.activity](since, m), act
            )
            upper = upper.towards(seated, share)
            upper.spine = upper.spine + np.array([0.75 * np.sin(np.pi * share), 0, 0])
            stand = self.build.leg_length * 0.985 + self.build.ankle_height
            upper.drop = share * (stand - stay.seat - 0.085)
            upper.back = _smooth(share * 1.1) * 0.42 * self.build.legs
            return upper, share
        return upper, 0.0

    def _stride(self, t: float, phase: float, vigour: float) -> Upper:
        """Arms and trunk while walking or running."""
        s = np.sin(2 * np.pi * phase)
        swing = (0.75 if self.running else 0.42) * vigour
        elbow = 1.6 if self.running else 0.28
        arms = np.array(
            [
                (
                    sign * swing * s + (0.0 if not self.running else -0.1),
                    0.12,
                    0.3,
                    elbow + 0.25 * vigour * max(sign * s, 0),
                    0.05,
                )
                for sign in (1, -1)
            ]
        )
        lean = 0.16 if self.running else 0.04
        head = np.array([-lean / 2, 0, 0.25 * np.sin(0.5 * t + self.manner.phases[4])])
        return Upper(arms, np.array([lean, 0, -0.16 * vigour * s]), head)


def _smooth(u: float) -> float:
    u = min(max(u, 0.0), 1.0)
    return u * u * (3 - 2 * u)
