"""The shape of people at rest: trunk, limbs, head, hair, clothes, as meshes that hang on the bones.

Every piece is a blend of blobs, turned into a mesh once per process and shared by everybody of that figure;
proportions (`body.Build`) and colours (`appearance`) make the persons different.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pave_ros.synthetic.arrays import Array, Indices, Vector
from pave_ros.synthetic.body import BONE, BONES, EYE_HEIGHT, HALFWAY, PARENT, REST, SIDES, along
from pave_ros.synthetic.surface import Blob, blend, bounds, mesh_of

SHEETS = ("top", "sleeve", "bottom", "leg", "skin", "head", "hair", "shoe", "extra")
"""The texture sheets of a person, in the order in which they are stacked in the atlas."""
WRAP = 0.5
"""Radians that a sheet goes on beyond the back seam on either side."""
TRUNK, ARM, LEG = 0, 1, 2
SPANS = {
    "top": (0.75, 1.55), "sleeve": (-0.06, 0.74), "bottom": (0.15, 1.08), "leg": (-0.1, 0.95), "skin": (-0.1, 1.7),
    "head": (1.36, 1.80), "hair": (1.36, 1.80), "shoe": (0.0, 0.16), "extra": (1.0, 1.5),
}  # fmt: skip
"""What a sheet covers, metres: heights for trunk, head, shoe; distances along the limb for sleeve and leg."""


@dataclass(frozen=True)
class Piece:
    """A mesh at rest.

    Attributes:
        vertices, normals: (V, 3), metres; faces: (F, 3).
        weights: (V, B) share of every bone in a vertex, rows sum to 1.
        shade: (V,) how much of the surroundings' light reaches a vertex, 0..1 (ambient occlusion).
        uv: (F, 3, 2) texture coordinates of every triangle's corners in the person's atlas: u in 0..1 around the
            part, v in sheets, so that sheet k spans k..k+1.
    """

    vertices: Array
    normals: Array
    faces: Indices
    weights: Array
    shade: Array
    uv: Array


def joined(pieces: Iterable[Piece]) -> Piece:
    """All of them as one mesh."""
    parts = list(pieces)
    starts = np.cumsum([0] + [len(p.vertices) for p in parts])
    faces = np.concatenate([p.faces + start for p, start in zip(parts, starts, strict=False)])
    names = ("vertices", "normals", "weights", "shade", "uv")
    return Piece(faces=faces.astype(np.int32), **{k: np.concatenate([getattr(p, k) for p in parts]) for k in names})


def _mirrored(blobs: Iterable[Blob]) -> list[Blob]:
    """The blobs, given for the left side, on both sides."""
    flip = np.array([-1.0, 1.0, 1.0])
    both = []
    for blob in blobs:
        clips = tuple((np.asarray(n) * flip, c) for n, c in blob.clips)
        right = blob.bone.replace("left", "right")
        both += [blob, replace(blob, bone=right, a=flip * blob.a, b=flip * blob.b, clips=clips)]
    return both


def _trunk(figure: str) -> list[Blob]:
    woman, stout = figure == "woman", figure == "stout"
    waist, chest, hips = (0.09, 0.1, 0.12) if woman else (0.104, 0.112, 0.112)
    blobs = [
        Blob("pelvis", (-0.075, 0.955, 0), (0.075, 0.955, 0), hips, hips, (1, 1, 0.95)),
        Blob("spine", (-0.05, 1.09, 0), (0.05, 1.09, 0), waist, waist, (1, 1.1, 0.9)),
        Blob("chest", (-0.06, 1.21, 0), (0.06, 1.21, 0), chest, chest, (1, 1, 0.9)),
        Blob("chest", (-0.085, 1.325, -0.012), (0.085, 1.325, -0.012), chest - 0.006, chest - 0.006, (1, 1, 0.92)),
    ]
    blobs += _mirrored([Blob("pelvis", (0.08, 0.90, -0.045), (0.08, 0.90, -0.045), 0.086, 0.086)])
    if woman:
        blobs += _mirrored([Blob("chest", (0.075, 1.265, 0.07), (0.075, 1.265, 0.07), 0.066, 0.066)])
    else:
        blobs += _mirrored([Blob("chest", (0.075, 1.31, 0.06), (0.075, 1.31, 0.06), 0.055, 0.055, (1.2, 0.9, 0.7))])
    if stout:
        blobs += [
            Blob("spine", (0, 1.06, 0.06), (0, 1.06, 0.06), 0.165, 0.165),
            Blob("pelvis", (-0.06, 0.96, 0.02), (0.06, 0.96, 0.02), 0.13, 0.13),
        ]
    return blobs


def _shoulders(figure: str) -> list[Blob]:
    thin = 0.88 if figure == "woman" else 1.0
    shoulder = REST[BONE["left_upper_arm"]]
    return _mirrored(
        [
            Blob("left_clavicle", (0.05, 1.41, -0.015), shoulder, 0.064, 0.052 * thin),
            Blob("neck", (0.025, 1.505, -0.03), (0.14, 1.425, -0.028), 0.032, 0.03),
        ]
    )


def _neck(figure: str) -> list[Blob]:
    r = 0.047 if figure == "woman" else 0.056
    return [Blob("neck", (0, 1.44, -0.022), (0, 1.58, 0.0), r * 1.08, r)]


def _arm(
    figure: str, grow: float = 0.0, fore_grow: float | None = None, length: float = 9.0, start: float = -1.0
) -> list[Blob]:
    """Both arms, thicker by `grow` metres, from `start` to `length` metres beyond the shoulder joint."""
    thin = 0.84 if figure == "woman" else 1.0
    shoulder, elbow, wrist = (REST[BONE[f"left_{b}"]] for b in ("upper_arm", "forearm", "hand"))
    d = along("left_upper_arm")
    cut = ((d, float(d @ shoulder) + length), (-d, -float(d @ shoulder) - start))
    fore = grow if fore_grow is None else fore_grow
    bulge = elbow + d * 0.07
    blobs = [
        Blob("left_upper_arm", shoulder, elbow, 0.053 * thin + grow, 0.041 * thin + grow, clips=cut),
        Blob(
            "left_upper_arm",
            shoulder + d * 0.11,
            shoulder + d * 0.18,
            0.05 * thin + grow,
            0.046 * thin + grow,
            clips=cut,
        ),
    ]
    if length > 0.3:
        blobs += [
            Blob("left_forearm", elbow, bulge, 0.041 * thin + fore, 0.043 * thin + fore, clips=cut),
            Blob("left_forearm", bulge, wrist, 0.043 * thin + fore, 0.027 * thin + fore, clips=cut),
        ]
    return _mirrored(blobs)


def _leg(figure: str, grow: float = 0.0, ankle: float | None = None, hem: float = 0.0) -> list[Blob]:
    """Both legs, thicker by `grow` metres; `ankle` is the radius there, if given; cut at the height `hem`."""
    thin = 0.97 if figure == "woman" else 1.06 if figure == "stout" else 1.0
    hip, knee, foot = (REST[BONE[f"left_{b}"]] for b in ("thigh", "shin", "foot"))
    cut = (((0, -1, 0), -hem),)
    blobs = [Blob("left_thigh", hip, knee, 0.092 * thin + grow, 0.058 * thin + grow, clips=cut)]
    if hem < knee[1]:
        calf = knee + np.array([0, -0.12, -0.018])
        low = knee + np.array([0, -0.2, -0.018])
        end = 0.036 + grow if ankle is None else ankle
        blobs += [
            Blob("left_shin", knee, foot, 0.056 * thin + grow, end, clips=cut),
            Blob("left_shin", calf, low, 0.055 * thin + grow, 0.05 * thin + grow, clips=cut),
        ]
    return _mirrored(blobs)


def _body(figure: str) -> list[Blob]:
    return [*_trunk(figure), *_shoulders(figure), *_neck(figure), *_arm(figure), *_leg(figure)]


def _cone(y0: float, r0: float, y1: float, r1: float, depth: float) -> list[Blob]:
    cut: tuple[tuple[Vector, float], ...] = (((0, 1, 0), y0), ((0, -1, 0), -y1))
    return [Blob("pelvis", (0, y0, 0), (0, y1, 0), r0, r1, (1, 1, depth), cut)]


def _top(figure: str, kind: str) -> list[Blob]:
    grow, hem, sleeve = {
        "tee": (0.014, 0.88, 0.2),
        "shirt": (0.016, 0.86, 0.525),
        "jacket": (0.023, 0.80, 0.525),
        "tank": (0.011, 0.92, 0.0),
        "dress": (0.011, 0.955, 0.15),
    }[kind]
    cuts: tuple[tuple[Vector, float], ...] = (((0, 1, 0.3), 1.497), ((0, -1, 0), -hem))
    if kind == "tank":
        cuts += (((0.9, 0.45, 0), 0.745), ((-0.9, 0.45, 0), 0.745))
    over = 0.014 if hem < 0.95 else 0.0
    blobs = [b.grown(grow + over * (b.bone == "pelvis")) for b in (*_trunk(figure), *_shoulders(figure))]
    blobs += [replace(b.grown(grow + over), bone="pelvis") for b in _leg(figure) if "thigh" in b.bone and hem < 0.95]
    blobs = [replace(blob, clips=(*blob.clips, *cuts)) for blob in blobs]
    return blobs + (_arm(figure, max(grow, 0.012), max(grow, 0.013), sleeve) if sleeve else [])


def _bottom(figure: str, kind: str) -> list[Blob]:
    waist = (((0, 1, 0), 1.02),)
    seat = [replace(b.grown(0.009), clips=waist) for b in _trunk(figure) if b.bone in ("pelvis", "spine")]
    wide = 0.03 if figure == "stout" else 0.0
    match kind:
        case "trousers":
            return seat + _leg(figure, 0.016, 0.068, 0.05)
        case "slim":
            return seat + _leg(figure, 0.008, 0.047, 0.075)
        case "shorts":
            return seat + _leg(figure, 0.026, None, 0.53)
        case "skirt":
            return _cone(0.99, 0.176 + wide, 0.56, 0.262 + wide, 0.74)
        case _:
            return _cone(0.99, 0.176 + wide, 0.22, 0.3 + wide, 0.76)


_SKULL = Blob("head", (0, 1.655, -0.012), (0, 1.655, -0.012), 0.1, 0.1, (0.765, 0.98, 0.97))


def _head(figure: str) -> list[Blob]:
    jaw = 0.9 if figure == "woman" else 1.0
    ball = EYE_HEIGHT
    blobs = [
        _SKULL,
        Blob("head", (0, 1.592, 0.02), (0, 1.592, 0.02), 0.062 * jaw, 0.062 * jaw, (0.98, 1.12, 1.08)),
        Blob("head", (0, 1.543, 0.062), (0, 1.543, 0.062), 0.023, 0.023, (1.1, 0.9, 1)),
        Blob("head", (0, 1.65, 0.079), (0, 1.612, 0.099), 0.009, 0.0145),
        Blob("head", (-0.014, 1.573, 0.078), (0.014, 1.573, 0.078), 0.0105, 0.0105),
        *_mirrored(
            [
                Blob("head", (0.082, 1.63, -0.01), (0.082, 1.63, -0.01), 0.03, 0.03, (0.32, 1.1, 0.7)),
                Blob("head", (0.016, 1.660, 0.071), (0.045, 1.662, 0.06), 0.012, 0.01),
                Blob("head", (0.032, ball, 0.07), (0.032, ball, 0.07), 0.0135, 0.0135),
                Blob("head", (0.04, 1.607, 0.058), (0.04, 1.607, 0.058), 0.02, 0.02),
            ]
        ),
    ]
    return blobs


def _hair(kind: str) -> list[Blob]:
    thick = {"crop": 0.006, "afro": 0.055, "bob": 0.02, "cap": 0.016, "beanie": 0.018}.get(kind, 0.015)
    tilt = np.array([0, -1, 1.0]) / np.sqrt(2)
    front = np.array([0, 1.712, 0.08])
    clips = [(tilt, float(tilt @ front))]
    if kind == "beanie":
        clips = [(np.array([0, -1, 0.25]), -1.665)]
    if kind == "cap":
        clips = [(np.array([0, -1, 0.2]), -1.672)]
    shell = replace(_SKULL.grown(thick), clips=tuple(clips))
    blobs = [shell]
    if kind == "afro":
        blobs = [replace(_SKULL.grown(thick), squash=(0.86, 0.9, 0.88), clips=tuple(clips))]
    if kind == "cap":
        blobs.append(Blob("head", (0, 1.685, 0.09), (0, 1.672, 0.135), 0.068, 0.062, (1, 0.12, 1)))
    if kind in ("bob", "long"):
        end = 1.53 if kind == "bob" else 1.41
        blobs.append(Blob("head", (0, 1.66, -0.045), (0, end, -0.075), 0.083, 0.075, (1, 1, 0.6)))
        blobs += _mirrored([Blob("head", (0.066, 1.68, 0.0), (0.073, end + 0.02, -0.01), 0.022, 0.026)])
        blobs += _mirrored([Blob("head", (0.02, 1.745, 0.035), (0.068, 1.67, 0.04), 0.016, 0.014)])
    if kind == "bun":
        blobs.append(Blob("head", (0, 1.72, -0.115), (0, 1.72, -0.115), 0.042, 0.042))
    if kind == "ponytail":
        blobs.append(Blob("head", (0, 1.70, -0.105), (0, 1.50, -0.135), 0.032, 0.016))
    return blobs


def _hand() -> list[Blob]:
    wrist, d = REST[BONE["left_hand"]], along("left_upper_arm")
    inward = np.array([-d[1], d[0], 0]) * -1
    z = np.array([0, 0, 1.0])
    blobs = [Blob("left_hand", wrist - d * 0.03, wrist + d * 0.02, 0.025, 0.024)]
    for offset, length in ((0.028, 0.155), (0.01, 0.17), (-0.009, 0.162), (-0.027, 0.14)):
        side = z * offset
        mid, tip = wrist + d * 0.09 + side, wrist + d * length + side * 1.1 + inward * 0.02
        blobs.append(Blob("left_hand", wrist + d * 0.015 + side * 0.6, mid, 0.0155, 0.0125))
        blobs.append(Blob("left_hand", mid, tip, 0.0105, 0.008))
    blobs.append(
        Blob("left_hand", wrist + d * 0.025 + z * 0.02, wrist + d * 0.1 + z * 0.052 + inward * 0.012, 0.014, 0.009)
    )
    return _mirrored(blobs)


def _shoe() -> list[Blob]:
    x, y, z = REST[BONE["left_foot"]].tolist()
    floor = (((0, -1, 0), 0.0),)
    return _mirrored(
        [
            Blob("left_foot", (x, 0.038, z - 0.038), (x + 0.008, 0.036, z + 0.13), 0.042, 0.042, (1, 1, 1), floor),
            Blob(
                "left_foot", (x + 0.008, 0.02, z + 0.12), (x + 0.006, 0.018, z + 0.155), 0.04, 0.034, (1, 0.8, 1), floor
            ),
            Blob("left_foot", (x, 0.05, z - 0.015), (x + 0.002, 0.09, z), 0.043, 0.042, clips=floor),
            Blob("left_foot", (x, 0.08, z + 0.01), (x + 0.005, 0.05, z + 0.08), 0.034, 0.032, clips=floor),
        ]
    )


def _bag() -> list[Blob]:
    return [
        Blob("chest", (-0.07, 1.32, -0.19), (0.07, 1.32, -0.19), 0.085, 0.085, (1, 1.3, 0.75)),
        Blob("chest", (-0.075, 1.15, -0.19), (0.075, 1.15, -0.19), 0.09, 0.09, (1, 1.2, 0.85)),
        *_mirrored(
            [
                Blob("chest", (0.095, 1.485, -0.03), (0.11, 1.40, 0.107), 0.02, 0.02, (1.3, 1, 1)),
                Blob("chest", (0.11, 1.40, 0.107), (0.125, 1.24, 0.108), 0.02, 0.018, (1.3, 1, 0.9)),
                Blob("chest", (0.125, 1.24, 0.108), (0.165, 1.12, 0.0), 0.018, 0.014),
                Blob("chest", (0.095, 1.485, -0.03), (0.09, 1.42, -0.13), 0.02, 0.02, (1.3, 1, 1)),
            ]
        ),
    ]


_NEIGHBOURS = np.eye(len(BONES), dtype=bool)
for _child, _parent in enumerate(PARENT):
    if _parent >= 0:
        _NEIGHBOURS[_child, _parent] = _NEIGHBOURS[_parent, _child] = True
for _side in ("left", "right"):
    for _a, _b in ((f"{_side}_upper_arm", "chest"), (f"{_side}_clavicle", "neck")):
        _NEIGHBOURS[BONE[_a], BONE[_b]] = _NEIGHBOURS[BONE[_b], BONE[_a]] = True


def _skinning(vertices: Array, blobs: list[Blob]) -> Array:
    """(V, B) weights: a vertex follows the bone whose flesh it lies on, and near joints the neighbours with it."""
    depth = np.full((len(BONES), len(vertices)), np.inf, np.float32)
    for blob in blobs:
        bone = BONE[blob.bone]
        depth[bone] = np.minimum(depth[bone], replace(blob, clips=()).distance(vertices))
    near = depth - depth.min(0)
    weights = np.exp(-near / 0.022) * _NEIGHBOURS[depth.argmin(0)].T
    weights /= weights.sum(0)
    for half, trunk, limb in HALFWAY:
        inner = [BONE[b] for b in ((trunk, half.replace("deltoid", "clavicle")) if trunk == "chest" else (trunk,))]
        both = np.minimum(weights[BONE[limb]], weights[inner].sum(0))
        weights[inner] *= 1 - both / np.maximum(weights[inner].sum(0), 1e-9)
        weights[BONE[limb]] -= both
        weights[BONE[half]] = 2 * both
    return weights.T.astype(np.float32)


def _skirt_skinning(vertices: Array) -> Array:
    """A skirt hangs on the hips above and is carried by the thighs below."""
    weights = np.zeros((len(vertices), len(BONES)), np.float32)
    x, y, _ = vertices.T
    low = np.clip((0.96 - y) / 0.25, 0, 1) * 0.85
    left = np.clip(0.5 + x / 0.24, 0, 1)
    weights[:, BONE["pelvis"]] = 1 - low
    weights[:, BONE["left_thigh"]], weights[:, BONE["right_thigh"]] = low * left, low * (1 - left)
    return weights


def _unwrap(vertices: Array, faces: Indices, weights: Array, sheets: tuple[str, str, str]) -> Array:
    """(F, 3, 2) texture coordinates: the angle around the trunk, arm or leg, and the height along it."""
    legs, arms = ("thigh", "shin", "foot"), ("arm", "hand", "deltoid")
    part_of_bone = np.array(
        [LEG if any(k in n for k in legs) else ARM if any(k in n for k in arms) else TRUNK for n, *_ in BONES]
    )
    corners = vertices[faces]
    centre_weights = weights[faces].mean(1)
    part = part_of_bone[centre_weights.argmax(1)]
    left = corners[..., 0].mean(1) > 0
    uv = np.zeros((*faces.shape, 2), np.float32)
    for k in (TRUNK, ARM, LEG):
        for side, sign in SIDES:
            chosen = part == k
            chosen &= left if side == "left" else ~left
            p = corners[chosen]
            if not len(p):
                continue
            if k == TRUNK:
                across, forward, height = p[..., 0], p[..., 2], p[..., 1]
            else:
                bone = BONE[f"{side}_{'upper_arm' if k == ARM else 'thigh'}"]
                d = along(BONES[bone][0]).astype(np.float32) if k == ARM else np.array([0.0, -1.0, 0.0], np.float32)
                q = p - REST[bone]
                distance = q @ d
                across = sign * (q @ np.array([-d[1] * sign, d[0] * sign, 0], np.float32))
                forward, height = q[..., 2] + (0.012 if k == LEG else 0), distance
                if k == LEG:
                    across = q[..., 0]
            angle = np.arctan2(across, forward)
            centre = np.arctan2(np.sin(angle).mean(1), np.cos(angle).mean(1))[:, None]
            angle = centre + np.mod(angle - centre + np.pi, 2 * np.pi) - np.pi
            low, high = SPANS[sheets[k]]
            t = (height - low) / (high - low)
            v = np.clip(t if k != TRUNK else 1 - t, 0.002, 0.998) + SHEETS.index(sheets[k])
            uv[chosen] = np.stack([angle_to_u(angle), v], -1)
    return uv


def angle_to_u(angle: npt.ArrayLike) -> Array:
    """0..1 across a sheet for an angle in radians from the front, positive to the body's left."""
    return (0.5 + np.asarray(angle, np.float32) / (2 * (np.pi + WRAP))).astype(np.float32)


def _unwrap_round(vertices: Array, faces: Indices, sheet: str) -> Array:
    """(F, 3, 2) texture coordinates of a head-like piece: the angle around the vertical, and the height."""
    p = vertices[faces]
    angle = np.arctan2(p[..., 0], p[..., 2])
    centre = np.arctan2(np.sin(angle).mean(1), np.cos(angle).mean(1))[:, None]
    angle = centre + np.mod(angle - centre + np.pi, 2 * np.pi) - np.pi
    low, high = SPANS[sheet]
    v = 1 - np.clip((p[..., 1] - low) / (high - low), 0.002, 0.998)
    return np.stack([angle_to_u(angle), v + SHEETS.index(sheet)], -1).astype(np.float32)


def _cut_clean(vertices: Array, blobs: list[Blob], step: float) -> None:
    """Move the vertices next to a cut onto it, so that hems are straight."""
    for blob in blobs:
        on_it = np.abs(blob.distance(vertices)) < step + 0.009 if blob.clips else np.zeros(0, bool)
        for normal, offset in blob.clips:
            away = vertices @ np.asarray(normal, np.float32) - np.float32(offset)
            near = on_it & (np.abs(away) < 0.75 * step)
            vertices[near] -= away[near, None] * np.asarray(normal, np.float32)


def _occlusion(vertices: Array, normals: Array, figure: str) -> Array:
    """(V,) share of the light from around that a vertex of the standing body sees."""
    distance = blend(_body(figure), 0.03)
    seen = [np.clip(distance(vertices + normals * r) / r, 0, 1) for r in (0.04, 0.09, 0.18)]
    return (0.35 + 0.65 * np.mean(seen, 0)).astype(np.float32)


@lru_cache(maxsize=512)
def piece(figure: str, what: str, kind: str, detail: float) -> Piece | None:
    """One piece of a person, or None where there is nothing to see.

    Args:
        figure: man, woman or stout.
        what: skin, head, hair, hand, shoe, top, bottom, bag.
        kind: for top tee, shirt, jacket, tank or dress; for bottom trousers, slim, shorts, skirt or long_skirt;
            for hair bald, short, crop, bob, long, bun, ponytail, afro, cap or beanie; for skin what is bare, as
            "arms", "legs".
        detail: size of the cells relative to the finest mesh, at least 1.
    """
    sheets = ("skin", "skin", "skin")
    step, softness = 0.02, 0.035
    match what:
        case "skin":
            blobs = [*_neck(figure), *(b for b in _shoulders(figure) if b.bone == "neck" or "shoulders" in kind)]
            cut = (((0, -1, 0), -1.33),)
            blobs += [replace(b, clips=cut) for b in _trunk(figure) if b.bone == "chest"]
            blobs += _arm(figure, start=-1.0 if "shoulders" in kind else 0.1) if "arms" in kind else []
            blobs += _leg(figure) if "legs" in kind else []
        case "top":
            blobs, sheets = _top(figure, kind), ("top", "sleeve", "top")
        case "bottom":
            blobs, sheets = _bottom(figure, kind), ("bottom", "leg", "leg")
        case "head":
            blobs, step, softness = _head(figure), 0.0095, 0.018
        case "hair":
            if kind == "bald":
                return None
            blobs, step, softness = _hair(kind), 0.012, 0.02 if kind != "cap" else 0.004
        case "hand":
            blobs, step, softness = _hand(), 0.0095, 0.008
        case "shoe":
            blobs, step = _shoe(), 0.014
        case "bag":
            blobs, step = _bag(), 0.018
        case _:
            raise ValueError(f"no such piece: {what}")
    step *= detail
    distance = blend(blobs, softness)
    low, high = bounds(blobs, 3 * step)
    vertices, normals, faces = mesh_of(distance, low, high, step)
    _cut_clean(vertices, blobs, step)
    skirt = what == "bottom" and "skirt" in kind
    weights = _skirt_skinning(vertices) if skirt else _skinning(vertices, blobs)
    uv = _unwrapped(what, vertices, faces, np.eye(len(BONES), dtype=np.float32)[:1] if skirt else weights, sheets)
    return Piece(vertices, normals, faces, weights, _occlusion(vertices, normals, figure), uv)


def _unwrapped(what: str, vertices: Array, faces: Indices, weights: Array, sheets: tuple[str, str, str]) -> Array:
    """Where the vertices of a piece lie on its sheets, see `_unwrap`; a skirt is all trunk."""
    match what:
        case "head" | "hair":
            return _unwrap_round(vertices, faces, what)
        case "shoe":
            shift = np.where(vertices[:, :1] > 0, -1, 1) * np.array([REST[15, 0], 0, 0], np.float32)
            return _unwrap_round((vertices + shift).astype(np.float32), faces, what)
        case "bag":
            return _unwrap_round(vertices, faces, "extra")
        case _:
            return _unwrap(vertices, faces, np.broadcast_to(weights, (len(vertices), len(BONES))), sheets)
