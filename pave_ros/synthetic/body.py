"""The articulated body: bones, human proportions, forward kinematics, leg inverse kinematics.

Axes of a body at rest and of the world: x to the body's left (picture right when it faces the camera), y up,
z forward (towards the camera). Metres and radians. The rest pose stands with the arms 45 degrees off the sides.
All functions of poses are batched: N poses at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pave_ros.synthetic.arrays import Array, Indices

BONES: tuple[tuple[str, str, tuple[float, float, float]], ...] = (
    ("pelvis", "", (0.0, 0.95, 0.0)),
    ("spine", "pelvis", (0.0, 1.06, -0.005)),
    ("chest", "spine", (0.0, 1.22, -0.01)),
    ("neck", "chest", (0.0, 1.47, -0.015)),
    ("head", "neck", (0.0, 1.56, 0.0)),
    ("left_clavicle", "chest", (0.03, 1.43, -0.01)),
    ("left_upper_arm", "left_clavicle", (0.175, 1.39, -0.015)),
    ("left_forearm", "left_upper_arm", (0.373, 1.192, -0.015)),
    ("left_hand", "left_forearm", (0.549, 1.016, -0.015)),
    ("right_clavicle", "chest", (-0.03, 1.43, -0.01)),
    ("right_upper_arm", "right_clavicle", (-0.175, 1.39, -0.015)),
    ("right_forearm", "right_upper_arm", (-0.373, 1.192, -0.015)),
    ("right_hand", "right_forearm", (-0.549, 1.016, -0.015)),
    ("left_thigh", "pelvis", (0.09, 0.925, 0.0)),
    ("left_shin", "left_thigh", (0.1, 0.5, 0.005)),
    ("left_foot", "left_shin", (0.105, 0.085, -0.02)),
    ("right_thigh", "pelvis", (-0.09, 0.925, 0.0)),
    ("right_shin", "right_thigh", (-0.1, 0.5, 0.005)),
    ("right_foot", "right_shin", (-0.105, 0.085, -0.02)),
    ("left_deltoid", "left_clavicle", (0.175, 1.39, -0.015)),
    ("right_deltoid", "right_clavicle", (-0.175, 1.39, -0.015)),
    ("left_groin", "pelvis", (0.09, 0.925, 0.0)),
    ("right_groin", "pelvis", (-0.09, 0.925, 0.0)),
)
"""Name, parent and joint at rest of every bone, for a body 1.75 m tall; parents come first. The last four turn half as
far as the limb that starts there, which keeps shoulders and hips full when the limb is raised."""

HALFWAY = tuple(
    (f"{side}_{half}", trunk, f"{side}_{limb}")
    for side in ("left", "right")
    for half, trunk, limb in (("deltoid", "chest", "upper_arm"), ("groin", "pelvis", "thigh"))
)
"""Those bones, with what they turn between."""

BONE = {name: i for i, (name, _, _) in enumerate(BONES)}
PARENT = tuple(BONE.get(parent, -1) for _, parent, _ in BONES)
REST = np.array([joint for *_, joint in BONES], np.float32)
SIDES = (("left", 1.0), ("right", -1.0))

EYE_HEIGHT = 1.642
"""Height of the eyes at rest, metres; the face is painted and the keypoints are placed by it."""

KEYPOINTS: tuple[tuple[str, tuple[float, float, float], float], ...] = (
    ("head", (0.0, 1.61, 0.111), 0.03),
    ("head", (0.032, EYE_HEIGHT, 0.083), 0.03),
    ("head", (-0.032, EYE_HEIGHT, 0.083), 0.03),
    ("head", (0.083, 1.63, -0.008), 0.035),
    ("head", (-0.083, 1.63, -0.008), 0.035),
    ("left_upper_arm", REST[6].tolist(), 0.105),
    ("right_upper_arm", REST[10].tolist(), 0.105),
    ("left_forearm", REST[7].tolist(), 0.08),
    ("right_forearm", REST[11].tolist(), 0.08),
    ("left_hand", REST[8].tolist(), 0.06),
    ("right_hand", REST[12].tolist(), 0.06),
    ("left_thigh", REST[13].tolist(), 0.19),
    ("right_thigh", REST[16].tolist(), 0.19),
    ("left_shin", REST[14].tolist(), 0.12),
    ("right_shin", REST[17].tolist(), 0.12),
    ("left_foot", REST[15].tolist(), 0.09),
    ("right_foot", REST[18].tolist(), 0.09),
)
"""The COCO-17 keypoints: bone, place at rest, and how deep (metres) they lie below the body's own surface at most."""


class P:
    """Where each quantity stands in a pose, a float vector of `P.SIZE`.

    ROOT x, y, z of the pelvis joint; YAW heading (0 faces +z, positive turns left); PELVIS, SPINE, HEAD each pitch
    (forward positive), roll (to the body's right positive), twist (left positive); ARMS left then right: flexion
    (forward), abduction (sideways), twist (forearm inward), elbow bend, wrist bend; FEET left then right: ankle x, y,
    z, yaw, pitch (toes down).
    """

    ROOT = slice(0, 3)
    YAW = 3
    PELVIS = slice(4, 7)
    SPINE = slice(7, 10)
    HEAD = slice(10, 13)
    ARMS = slice(13, 23)
    FEET = slice(23, 33)
    SIZE = 33


@dataclass(frozen=True)
class Build:
    """Proportions of one person, as factors of the standard body of 1.75 m.

    Attributes:
        trunk, legs, arms: lengths of pelvis to neck, of thigh and shin, of upper arm to hand.
        girth: thickness of the limbs; width, depth: breadth and depth of the trunk.
        head: size of the head; feet: size of the feet.
    """

    trunk: float = 1.0
    legs: float = 1.0
    arms: float = 1.0
    girth: float = 1.0
    width: float = 1.0
    depth: float = 1.0
    head: float = 1.0
    feet: float = 1.0

    @cached_property
    def scales(self) -> Array:
        """(B, 3, 3) linear map of each bone from the standard body at rest to this one."""
        maps = np.zeros((len(BONES), 3, 3), np.float32)
        for name, b in BONE.items():
            if name in ("pelvis", "spine", "chest") or "groin" in name:
                maps[b] = np.diag([self.width, self.trunk, self.depth])
            elif "clavicle" in name or "deltoid" in name:
                maps[b] = np.diag([self.width, (self.trunk + self.girth) / 2, self.depth])
            elif name == "neck":
                maps[b] = np.diag([(self.head + self.girth) / 2, self.head, (self.head + self.girth) / 2])
            elif name == "head":
                maps[b] = np.eye(3) * self.head
            elif "foot" in name:
                maps[b] = np.diag([self.feet, self.feet, self.feet])
            elif "hand" in name:
                maps[b] = np.eye(3) * self.arms
            else:
                length = self.arms if "arm" in name else self.legs
                d = along(name)
                maps[b] = self.girth * np.eye(3) + (length - self.girth) * np.outer(d, d)
        return maps

    @cached_property
    def offsets(self) -> Array:
        """(B, 3) joint of each bone relative to its parent's joint, in the parent's frame at rest, metres."""
        steps = REST - REST[list(PARENT)]
        return np.einsum("bij,bj->bi", self.scales[list(PARENT)], steps).astype(np.float32)

    @property
    def leg_length(self) -> float:
        """Hip joint to ankle, metres."""
        return float(np.linalg.norm(self.offsets[14]) + np.linalg.norm(self.offsets[15]))

    @property
    def ankle_height(self) -> float:
        """Ankle joint above the ground when the foot is flat, metres."""
        return float(REST[15, 1] * self.feet)


def along(bone: str) -> Array:
    """Unit direction at rest from the joint of a limb's bone to the next joint."""
    child = PARENT.index(BONE[bone])
    d = (REST[child] - REST[BONE[bone]]).astype(np.float64)
    return d / np.linalg.norm(d)


def rotation(pitch: Array, roll: Array, twist: Array) -> Array:
    """(N, 3, 3) rotations: twist about y, then pitch about x, then roll about z; angles (N,) in radians."""
    cx, sx, cz, sz, cy, sy = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll), np.cos(twist), np.sin(twist)
    rows = [
        [cy * cz + sy * sx * sz, sy * sx * cz - cy * sz, sy * cx],
        [cx * sz, cx * cz, -sx],
        [cy * sx * sz - sy * cz, sy * sz + cy * sx * cz, cy * cx],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _unit(v: Array) -> Array:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def _frame(direction: Array, axis: Array) -> Array:
    """(N, 3, 3) orthonormal frames whose columns are the direction, the hinge axis and their cross product."""
    axis = _unit(axis - (axis * direction).sum(-1, keepdims=True) * direction)
    return np.stack([direction, axis, np.cross(direction, axis)], -1)


def _limb_rest(bone: str, bend: tuple[float, float, float]) -> Array:
    direction = along(bone)
    return _frame(direction[None], np.cross(direction, bend)[None])[0].T


_REST_FRAMES = {
    BONE[f"{side}_{part}"]: _limb_rest(f"{side}_{part}", (0, 0, 1))
    for side, _ in SIDES
    for part in ("upper_arm", "forearm", "thigh", "shin")
}


def kinematics(poses: npt.ArrayLike, offsets: npt.ArrayLike) -> tuple[Array, Array]:
    """Where the bones are.

    Args:
        poses: (N, P.SIZE) pose vectors.
        offsets: (N, B, 3) of each pose's `Build.offsets`.
    Returns:
        rotations (N, B, 3, 3) from rest to world, and joints (N, B, 3) in world metres. A foot that is out of reach
        of its leg is brought back to where the straight leg ends.
    """
    q = np.asarray(poses, np.float64)
    off = np.asarray(offsets, np.float64)
    n = len(q)
    turn = np.zeros((n, len(BONES), 3, 3))
    joint = np.zeros((n, len(BONES), 3))
    zero = np.zeros(n)
    pelvis, spine, head = (q[:, part].T for part in (P.PELVIS, P.SPINE, P.HEAD))
    heading = rotation(zero, zero, q[:, P.YAW])
    half_spine, half_head = rotation(*(spine / 2)), rotation(*(head / 2))

    def attach(bone: int, rotation_: Array) -> None:
        turn[:, bone] = rotation_
        joint[:, bone] = joint[:, PARENT[bone]] + np.einsum("nij,nj->ni", turn[:, PARENT[bone]], off[:, bone])

    turn[:, 0], joint[:, 0] = heading @ rotation(*pelvis), q[:, P.ROOT]
    attach(1, turn[:, 0] @ half_spine)
    attach(2, turn[:, 1] @ half_spine)
    attach(3, turn[:, 2] @ half_head)
    attach(4, turn[:, 3] @ half_head)
    for s, (side, sign) in enumerate(SIDES):
        flexion, abduction, twist, elbow, wrist = q[:, P.ARMS].reshape(n, 2, 5)[:, s].T
        clavicle, upper, lower, hand = (BONE[f"{side}_{b}"] for b in ("clavicle", "upper_arm", "forearm", "hand"))
        down = -np.cos(abduction) * np.cos(flexion)
        attach(clavicle, turn[:, 2] @ rotation(zero, sign * 0.35 * np.clip(down + 0.5, 0.0, 1.5), zero))
        d = np.stack([sign * np.sin(abduction), down, np.cos(abduction) * np.sin(flexion)], -1)
        forward = np.stack([zero, np.sin(flexion), np.cos(flexion)], -1)
        forward = _unit(forward - (forward * d).sum(-1, keepdims=True) * d)
        bend = np.cos(twist)[:, None] * forward + sign * np.sin(twist)[:, None] * np.cross(d, forward)
        axis = np.cross(d, bend)
        fore = np.cos(elbow)[:, None] * d + np.sin(elbow)[:, None] * bend
        reach = np.cos(elbow + wrist)[:, None] * d + np.sin(elbow + wrist)[:, None] * bend
        attach(upper, turn[:, 2] @ _frame(d, axis) @ _REST_FRAMES[upper])
        attach(lower, turn[:, 2] @ _frame(fore, axis) @ _REST_FRAMES[lower])
        attach(hand, turn[:, 2] @ _frame(reach, axis) @ _REST_FRAMES[lower])
        thigh, shin, foot = (BONE[f"{side}_{b}"] for b in ("thigh", "shin", "foot"))
        *ankle, yaw, toes = q[:, P.FEET].reshape(n, 2, 5)[:, s].T
        attach(thigh, turn[:, 0])
        knee, end = _bend_leg(joint[:, thigh], np.stack(ankle, -1), off[:, shin], off[:, foot], q[:, P.YAW], yaw)
        for bone, start, stop in ((thigh, joint[:, thigh], knee), (shin, knee, end)):
            turn[:, bone] = _frame(_unit(stop - start), _knee_axis(q[:, P.YAW], yaw)) @ _REST_FRAMES[bone]
            joint[:, bone] = start
        turn[:, foot], joint[:, foot] = rotation(zero, zero, yaw) @ rotation(toes, zero, zero), end
    for half, trunk, limb in HALFWAY:
        base = turn[:, BONE[trunk]]
        attach(BONE[half], base @ _halved(base.transpose(0, 2, 1) @ turn[:, BONE[limb]]))
    return turn.astype(np.float32), joint.astype(np.float32)


def _halved(turn: Array) -> Array:
    """(N, 3, 3) rotations about the same axes by half the angle."""
    trace = turn[:, 0, 0] + turn[:, 1, 1] + turn[:, 2, 2]
    axis = np.stack([turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], -1)
    half = np.arccos(np.clip((trace - 1) / 2, -1, 1))[:, None, None] / 2
    cross = np.zeros_like(turn)
    cross[:, 2, 1], cross[:, 0, 2], cross[:, 1, 0] = _unit(axis).T
    cross -= cross.transpose(0, 2, 1)
    return np.eye(3) + np.sin(half) * cross + (1 - np.cos(half)) * (cross @ cross)


def _knee_axis(heading: Array, foot_yaw: Array) -> Array:
    """(N, 3) hinge of the knee for a leg that bends forward between the body's heading and the foot's."""
    yaw = heading + 0.6 * (np.mod(foot_yaw - heading + np.pi, 2 * np.pi) - np.pi)
    return np.stack([-np.cos(yaw), np.zeros_like(yaw), np.sin(yaw)], -1)


def _bend_leg(
    hip: Array, ankle: Array, thigh: Array, shin: Array, heading: Array, foot_yaw: Array
) -> tuple[Array, ...]:
    """Knee and ankle (N, 3) of a leg between the hip and the wished ankle, by the law of cosines."""
    a, b = np.linalg.norm(thigh, axis=-1), np.linalg.norm(shin, axis=-1)
    line = ankle - hip
    reach = np.clip(np.linalg.norm(line, axis=-1), np.abs(a - b) + 0.02, (a + b) * 0.9995)
    towards = _unit(line)
    cosine = np.clip((a * a + reach * reach - b * b) / (2 * a * reach), -1, 1)[:, None]
    forward = _unit(np.cross(_knee_axis(heading, foot_yaw), towards))
    knee = hip + a[:, None] * (cosine * towards + np.sqrt(1 - cosine**2) * forward)
    return knee, hip + reach[:, None] * towards


def keypoint_anchors(build: Build) -> tuple[Indices, Array]:
    """Bone (17,) and place (17, 3) in that bone's frame of every COCO-17 keypoint, for `joints + rotations @ place`."""
    bones = np.array([BONE[name] for name, _, _ in KEYPOINTS])
    places = np.array([place for _, place, _ in KEYPOINTS], np.float32) - REST[bones]
    return bones, np.einsum("kij,kj->ki", build.scales[bones], places).astype(np.float32)
