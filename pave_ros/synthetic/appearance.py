"""What a person looks like: figure, proportions, clothes, and the texture atlas painted for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from pave_ros.synthetic.arrays import Array, Image, Rng, Vector
from pave_ros.synthetic.body import EYE_HEIGHT, Build
from pave_ros.synthetic.figure import SHEETS, SPANS, angle_to_u
from pave_ros.synthetic.texture import cloth, noise, plain, to_image

SHEET = 256
"""Width and height of a texture sheet in texels."""
FINE = 4
"""How many times as large a face is painted."""

_SKINS = np.array(
    [(238, 200, 176), (228, 184, 154), (216, 168, 136), (198, 146, 110), (168, 116, 82), (128, 84, 58), (92, 60, 44)]
)
_HAIRS = np.array(
    [(28, 22, 20), (44, 30, 24), (74, 48, 32), (104, 70, 42), (150, 112, 66), (196, 160, 104), (130, 58, 34),
     (150, 148, 146)]
)  # fmt: skip
_CLOTHS = np.array(
    [(236, 234, 228), (208, 204, 196), (36, 36, 40), (70, 72, 78), (128, 130, 134), (32, 44, 82), (52, 90, 150),
     (120, 164, 204), (150, 34, 40), (190, 66, 48), (222, 150, 44), (236, 206, 96), (40, 84, 56), (104, 124, 70),
     (110, 60, 110), (208, 140, 156), (92, 64, 48), (196, 170, 130), (44, 120, 124), (230, 110, 90)]
)  # fmt: skip
_LEGWEAR = np.array(
    [(38, 52, 86), (58, 78, 118), (92, 112, 146), (32, 32, 36), (64, 64, 68), (110, 108, 106), (172, 152, 118),
     (122, 102, 78), (70, 76, 56), (208, 200, 186)]
)  # fmt: skip
_PATTERNS = ("plain", "plain", "plain", "melange", "stripes", "checks", "plaid", "dots", "pinstripes")


@dataclass(frozen=True)
class Appearance:
    """One person's look.

    Attributes:
        figure: man, woman or stout; build: the proportions.
        pieces: what and kind of every mesh piece, see `figure.piece`.
        paint: makes the texture, (len(SHEETS) * SHEET, SHEET, 3) uint8; takes a while, and is to be called once.
    """

    figure: str
    build: Build
    pieces: tuple[tuple[str, str], ...]
    paint: Callable[[], Image]


def sample(rng: Rng) -> Appearance:
    """A random person: an adult, or sometimes a child."""
    figure = str(rng.choice(["man", "woman", "stout"], p=[0.45, 0.45, 0.1]))
    child = rng.random() < 0.12
    if child:
        figure = str(rng.choice(["man", "woman"]))
    build = _build(rng, figure, child)
    top, bottom, hair = _outfit(rng, figure)
    bare = " ".join(
        part
        for part, shown in (
            ("shoulders", top == "tank"),
            ("arms", top in ("tee", "tank", "dress")),
            ("legs", bottom in ("shorts", "skirt", "long_skirt")),
        )
        if shown
    )
    pieces = [
        ("skin", bare),
        ("top", top),
        ("bottom", bottom),
        ("head", ""),
        ("hair", hair),
        ("hand", ""),
        ("shoe", ""),
    ]
    if rng.random() < 0.15:
        pieces.append(("bag", ""))
    return Appearance(figure, build, tuple(pieces), partial(_paint, rng, figure, top, bottom, hair, child))


def _build(rng: Rng, figure: str, child: bool) -> Build:
    def about(mean: float, spread: float) -> float:
        return float(mean * (1 + spread * np.clip(rng.standard_normal(), -2, 2)))

    if child:
        size = rng.uniform(0.62, 0.86)
        return Build(
            size * 1.02,
            size * 0.97,
            size * 0.98,
            size * about(1.0, 0.05),
            size * 1.03,
            size * 1.08,
            0.88 + 0.1 * size,
            size,
        )
    size = about(1.01 if figure != "woman" else 0.945, 0.035)
    girth = about(1.0, 0.09) * (1.0 if figure != "stout" else 1.08)
    width = about(0.93 if figure == "woman" else 1.0, 0.035) * (0.6 + 0.4 * girth)
    return Build(
        trunk=about(size, 0.015),
        legs=about(size, 0.02),
        arms=about(size, 0.02),
        girth=girth * size,
        width=width * size,
        depth=girth * size,
        head=about(1.02, 0.02) * (0.5 + 0.5 * size),
        feet=about(size, 0.03),
    )


def _outfit(rng: Rng, figure: str) -> tuple[str, str, str]:
    if figure == "woman":
        top = str(rng.choice(["tee", "shirt", "jacket", "tank", "dress"], p=[0.32, 0.24, 0.16, 0.12, 0.16]))
        bottom = str(rng.choice(["trousers", "slim", "shorts", "skirt", "long_skirt"], p=[0.2, 0.4, 0.14, 0.16, 0.1]))
        if top == "dress":
            bottom = str(rng.choice(["skirt", "long_skirt"]))
        hair = str(
            rng.choice(
                ["long", "bob", "bun", "ponytail", "short", "afro", "cap"], p=[0.3, 0.2, 0.13, 0.2, 0.07, 0.06, 0.04]
            )
        )
    else:
        top = str(rng.choice(["tee", "shirt", "jacket", "tank"], p=[0.4, 0.3, 0.23, 0.07]))
        bottom = str(rng.choice(["trousers", "slim", "shorts"], p=[0.5, 0.28, 0.22]))
        hair = str(
            rng.choice(
                ["short", "crop", "bald", "cap", "beanie", "afro", "long"], p=[0.46, 0.22, 0.08, 0.1, 0.06, 0.05, 0.03]
            )
        )
    return top, bottom, hair


def _paint(rng: Rng, figure: str, top: str, bottom: str, hair: str, child: bool) -> Image:
    skin = _SKINS[rng.integers(len(_SKINS))] * rng.uniform(0.94, 1.04)
    dark = skin.mean() < 120
    hair_color = (_HAIRS[rng.integers(0, 3)] if dark else _HAIRS[rng.integers(0, 7 if child else 8)]) * rng.uniform(
        0.85, 1.15
    )
    color, second, inner = (c.astype(float) for c in _CLOTHS[rng.choice(len(_CLOTHS), 3, replace=False)])
    leg = _LEGWEAR[rng.integers(len(_LEGWEAR))] * rng.uniform(0.9, 1.1)
    sheets = {name: plain(skin, SHEET, SHEET) for name in SHEETS}
    sheets["skin"] *= (1 + 0.02 * noise(rng, SHEET, SHEET, 40, 4))[..., None]
    pattern = "plain" if top == "jacket" else str(rng.choice(_PATTERNS))
    repeat = float(rng.uniform(6, 26))
    sheets["top"] = cloth(rng, SHEET, SHEET, pattern, color, second, repeat)
    sheets["sleeve"] = cloth(rng, SHEET, SHEET, pattern, color, second, repeat)
    _fold(rng, sheets["top"], 0.05)
    _fold(rng, sheets["sleeve"], 0.07)
    _trim_top(rng, sheets["top"], top, color, second, inner)
    if top == "dress":
        fabric = "flowers" if rng.random() < 0.5 else pattern
        for name in ("top", "sleeve", "bottom"):
            sheets[name] = cloth(rng, SHEET, SHEET, fabric, color, second, repeat)
            _fold(rng, sheets[name], 0.05)
    else:
        weave = "denim" if leg[2] > leg[0] * 1.25 else "plaid" if "skirt" in bottom and rng.random() < 0.3 else "plain"
        for name in ("bottom", "leg"):
            sheets[name] = cloth(rng, SHEET, SHEET, weave, leg, leg * 1.25 + 16, 22)
            _fold(rng, sheets[name], 0.06)
        _trim_bottom(sheets["bottom"], sheets["leg"], leg, bottom)
    _neckline(rng, sheets["top"], top, skin)
    if "skirt" in bottom:
        _pleat(rng, sheets["bottom"])
    sheets["head"] = _face(rng, skin, hair_color, hair, figure, child)
    sheets["hair"] = _strands(rng, hair_color if hair not in ("cap", "beanie") else second, hair)
    sheets["shoe"] = _shoe(rng)
    sheets["extra"] = cloth(rng, SHEET, SHEET, "plain", inner * 0.8, second, 20)
    _fold(rng, sheets["extra"], 0.05)
    return to_image(np.concatenate([sheets[name] for name in SHEETS]))


def _row(sheet: str, y: float) -> int:
    low, high = SPANS[sheet]
    share = (y - low) / (high - low)
    return round(SHEET * (share if sheet in ("sleeve", "leg") else 1 - share))


def _column(angle: float) -> int:
    return round(float(angle_to_u(angle)) * SHEET)


def _fold(rng: Rng, sheet: Array, depth: float) -> None:
    """Soft folds: light and dark bands that run along and across the cloth."""
    along_, across = noise(rng, SHEET, SHEET, 26, 3, 2.6), noise(rng, SHEET, SHEET, 44, 3, 0.5)
    sheet *= (1 + depth * along_ + 0.6 * depth * across)[..., None]


def _pleat(rng: Rng, sheet: Array) -> None:
    n = int(rng.integers(9, 20))
    wave = np.sin(np.arange(SHEET) / SHEET * 2 * np.pi * n)
    growing = np.clip((np.arange(SHEET) - _row("bottom", 0.95)) / 60, 0, 1)[:, None]
    sheet *= (1 + 0.14 * growing * wave)[..., None]


def _neckline(rng: Rng, sheet: Array, kind: str, skin: Vector) -> None:
    """The skin that a tee, tank or dress leaves bare below the neck: round or pointed."""
    if kind not in ("tee", "tank", "dress"):
        return
    deep = rng.uniform(1.40, 1.435) if kind == "tee" else rng.uniform(1.33, 1.40)
    wide = 0.6 if kind == "tee" else 0.85
    angle = np.linspace(-wide, wide, 17)
    share = np.abs(angle) / wide
    height = deep + (1.5 - deep) * (share if rng.random() < 0.3 else share**3)
    outline = np.array([(_column(a), _row("top", y)) for a, y in zip(angle, height, strict=True)])
    cv2.fillPoly(
        sheet, [np.concatenate([outline, [[outline[-1, 0], 0], [outline[0, 0], 0]]])], np.asarray(skin).tolist()
    )
    cv2.polylines(sheet, [outline], False, (np.asarray(skin) * 0.55).tolist(), 1)


def _trim_top(rng: Rng, sheet: Array, kind: str, color: Vector, second: Vector, inner: Vector) -> None:
    """Collar, buttons, zip, print."""
    middle = _column(0)
    color, second = np.asarray(color), np.asarray(second)
    if kind == "tee":
        sheet[: _row("top", 1.462)] *= 0.82
        if rng.random() < 0.55:
            _print(rng, sheet, second)
    elif kind == "shirt":
        sheet[:, middle - 2 : middle + 3] *= 1.06
        sheet[:, middle + 3] *= 0.72
        tone = (240, 240, 236) if color.mean() < 150 else (90, 84, 80)
        for y in np.arange(0.9, 1.46, 0.085):
            cv2.circle(sheet, (middle, _row("top", float(y))), 1, tone, -1, cv2.LINE_AA)
        collar = np.array([[_column(-0.75), 0], [middle, _row("top", 1.425)], [_column(0.75), 0]])
        cv2.fillPoly(sheet, [collar], (np.clip(color * 1.1 + 8, 0, 255)).tolist(), cv2.LINE_AA)
        cv2.polylines(sheet, [collar], False, (color * 0.6).tolist(), 1, cv2.LINE_AA)
        if rng.random() < 0.6:
            x0, x1 = _column(0.35), _column(0.75)
            cv2.rectangle(sheet, (x0, _row("top", 1.33)), (x1, _row("top", 1.23)), (color * 0.72).tolist(), 1)
    elif kind == "jacket":
        if rng.random() < 0.6:
            half = rng.uniform(0.12, 0.3)
            opening = np.array(
                [[_column(-half * 1.7), 0], [_column(half * 1.7), 0], [_column(half), SHEET], [_column(-half), SHEET]]
            )
            cv2.fillPoly(sheet, [opening], np.asarray(inner).tolist(), cv2.LINE_AA)
            cv2.polylines(sheet, [opening], False, (color * 0.5).tolist(), 2, cv2.LINE_AA)
            if rng.random() < 0.4:
                tie = np.array(
                    [[middle - 3, 0], [middle + 3, 0], [middle + 5, _row("top", 1.05)], [middle - 5, _row("top", 1.05)]]
                )
                cv2.fillPoly(sheet, [tie], (second * 0.7).tolist(), cv2.LINE_AA)
        else:
            cv2.line(sheet, (middle, 0), (middle, SHEET), (color * 0.45).tolist(), 2)
        for side in (-1, 1):
            x = _column(side * 0.85)
            cv2.line(
                sheet, (x - 8, _row("top", 0.98)), (x + 8, _row("top", 0.96)), (color * 0.55).tolist(), 2, cv2.LINE_AA
            )
    sheet[_row("top", 0.895) : _row("top", 0.885)] *= 0.8


def _print(rng: Rng, sheet: Array, color: Vector) -> None:
    """A print on the chest: a word, a bar, a disc or a badge."""
    middle, y = _column(0), _row("top", 1.25)
    tone = np.asarray(color).tolist()
    match int(rng.integers(4)):
        case 0:
            word = "".join(rng.choice(list("ABEHKMNORSTUVXZ"), int(rng.integers(2, 5))))
            width = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, 0.8, 2)[0][0]
            ink = np.zeros((SHEET, SHEET), np.uint8)
            cv2.putText(ink, word, (middle - width // 2, y), cv2.FONT_HERSHEY_DUPLEX, 0.8, 255, 2, cv2.LINE_AA)
            sheet += (np.asarray(color, np.float32) - sheet) * (ink / np.float32(255))[..., None]
        case 1:
            sheet[y - 12 : y + 8] = color
        case 2:
            cv2.circle(sheet, (middle, y), int(rng.integers(10, 20)), tone, -1, cv2.LINE_AA)
        case _:
            cv2.rectangle(sheet, (middle + 12, y - 22), (middle + 22, y - 12), tone, -1)


def _trim_bottom(trunk: Array, leg: Array, color: Vector, kind: str) -> None:
    """Belt, fly, pockets, seams, knees."""
    color = np.asarray(color)
    if "skirt" not in kind:
        trunk[_row("bottom", 1.02) : _row("bottom", 0.985)] *= 0.5
        middle = _column(0)
        trunk[_row("bottom", 0.98) : _row("bottom", 0.88), middle : middle + 2] *= 0.7
        for side in (-1, 1):
            start, end = (_column(side * 0.5), _row("bottom", 0.98)), (_column(side * 1.1), _row("bottom", 0.9))
            cv2.line(trunk, start, end, (color * 0.6).tolist(), 1, cv2.LINE_AA)
            x0, x1 = sorted((_column(side * np.pi * 0.94), _column(side * np.pi * 0.72)))
            cv2.rectangle(trunk, (x0, _row("bottom", 0.96)), (x1, _row("bottom", 0.86)), (color * 0.7).tolist(), 1)
        for side in (-1, 1):
            x = _column(side * np.pi / 2)
            leg[:, x : x + 1] *= 0.75
        knee = np.exp(-(((np.arange(SHEET) - _row("leg", 0.43)) / 16) ** 2))[:, None]
        wave = np.sin(np.arange(SHEET) / 3.2)[:, None]
        leg *= (1 + 0.05 * knee * wave)[..., None]


@dataclass(frozen=True)
class _Canvas:
    """The head's sheet while the face is painted on it, `FINE` times as large for smooth lines. Places are metres to
    the left, above the ground and to the front of a standing adult, as the mesh has them; radii are metres too."""

    image: Array

    def at(self, x: float, y: float, z: float = 0.083) -> tuple[int, int]:
        """The pixel of a place."""
        angle = np.arctan2(x, z)
        low, high = SPANS["head"]
        return int(float(angle_to_u(angle)) * SHEET * FINE), int((1 - (y - low) / (high - low)) * SHEET * FINE)

    def spot(self, x: float, y: float, rx: float, ry: float, color: Vector, share: float, z: float = 0.083) -> None:
        """A soft patch of colour."""
        cx, cy = self.at(x, y, z)
        sx, sy = rx / (7.28 * np.hypot(x, z)) * SHEET * FINE, ry / 0.44 * SHEET * FINE
        part = tuple(
            slice(max(int(c - 2.2 * r), 0), min(int(c + 2.2 * r) + 1, SHEET * FINE)) for c, r in ((cy, sy), (cx, sx))
        )
        yy, xx = np.ogrid[part]
        weight = share * np.exp(-(((xx - cx) / sx) ** 2 + ((yy - cy) / sy) ** 2))
        self.image[part] += (np.asarray(color, np.float32) - self.image[part]) * weight[..., None].astype(np.float32)

    def oval(self, x: float, y: float, rx: float, ry: float, color: Vector, z: float = 0.083) -> None:
        """A patch with an edge."""
        size = (max(1, int(rx / (7.28 * np.hypot(x, z)) * SHEET * FINE)), max(1, int(ry / 0.44 * SHEET * FINE)))
        cv2.ellipse(
            self.image, self.at(x, y, z), size, 0, 0, 360, np.asarray(color, np.float64).tolist(), -1, cv2.LINE_AA
        )

    def lines(self, places: Iterable[tuple[float, float]], color: Vector, width: int) -> None:
        """Lines from place to place."""
        corners = np.array([self.at(x, y) for x, y in places])
        cv2.polylines(self.image, [corners], False, np.asarray(color, np.float64).tolist(), width, cv2.LINE_AA)


def _face(rng: Rng, skin: Vector, hair_color: Vector, hair: str, figure: str, child: bool) -> Array:
    """The head's sheet: skin with the face painted on."""
    skin, hair_color = np.asarray(skin, np.float64), np.asarray(hair_color, np.float64)
    canvas = _Canvas(plain(skin, SHEET * FINE, SHEET * FINE))
    woman = figure == "woman"
    flush = skin * (1.02, 0.80, 0.78)
    for side in (-1, 1):
        canvas.spot(side * 0.042, 1.6, 0.02, 0.02, flush, 0.45)
        canvas.spot(side * 0.032, EYE_HEIGHT, 0.021, 0.017, skin * 0.72, 0.75)
        canvas.spot(side * 0.0085, 1.604, 0.005, 0.003, skin * 0.5, 0.6, 0.1)
        canvas.spot(side * 0.082, 1.63, 0.02, 0.022, skin * 0.88, 0.5, 0.01)
    canvas.spot(0, 1.597, 0.014, 0.004, skin * 0.72, 0.5, 0.1)
    canvas.spot(0, 1.557, 0.016, 0.005, skin * 0.7, 0.6)
    if not woman and not child and rng.random() < 0.45:
        _paint_beard(canvas, *((hair_color, 0.88) if rng.random() < 0.4 else (skin * 0.62, 0.45)))
    lips = skin * ((0.92, 0.58, 0.58) if not woman else (0.95, 0.48, 0.5))
    canvas.oval(0, 1.5765, 0.023, 0.0042, lips * 0.92)
    canvas.oval(0, 1.5705, 0.019, 0.0048, lips)
    canvas.oval(0, 1.574, 0.022, 0.0011, lips * 0.45)
    iris = rng.choice(np.array([(70, 44, 28), (96, 66, 38), (74, 104, 128), (84, 110, 74)]))
    _paint_eyes(canvas, skin, iris, np.minimum(hair_color * 0.85, skin * 0.7), woman)
    if rng.random() < 0.2:
        _paint_glasses(canvas)
    if hair == "bald":
        canvas.spot(0, 1.75, 0.1, 0.03, skin * 1.08, 0.5)
    if hair in ("short", "crop", "bun", "ponytail"):
        _paint_hairline(canvas, hair_color)
    small = cv2.resize(canvas.image, (SHEET, SHEET), interpolation=cv2.INTER_AREA).astype(np.float32)
    return small * (1 + 0.015 * noise(rng, SHEET, SHEET, 6, 2))[..., None]


def _paint_beard(canvas: _Canvas, tone: Vector, share: float) -> None:
    for x in np.linspace(-0.06, 0.06, 7):
        canvas.spot(float(x), 1.548 + 6 * float(x) ** 2, 0.017, 0.014, tone, share * 0.7, 0.07)
    canvas.spot(0, 1.590, 0.022, 0.005, tone, share, 0.095)


def _paint_eyes(canvas: _Canvas, skin: Array, iris: Vector, brow: Vector, woman: bool) -> None:
    for side in (-1, 1):
        x = side * 0.032
        canvas.oval(x, EYE_HEIGHT, 0.0150, 0.0075, skin * 0.42)
        canvas.oval(x, EYE_HEIGHT - 0.0006, 0.0135, 0.0058, (232, 228, 222))
        canvas.oval(x, EYE_HEIGHT - 0.0002, 0.0060, 0.0060, iris)
        canvas.oval(x, EYE_HEIGHT - 0.0002, 0.0028, 0.0030, (14, 12, 12))
        canvas.oval(x + 0.002, EYE_HEIGHT + 0.0022, 0.0012, 0.0012, (250, 250, 250))
        lid = ((-0.015, 0.001), (-0.006, 0.0072), (0.006, 0.0072), (0.015, 0.001))
        canvas.lines(((x + dx, EYE_HEIGHT + dy) for dx, dy in lid), skin * (0.16 if woman else 0.3), 7)
        arch = ((-0.016, 0.0175), (0.0, 0.0225), (0.019, 0.017))
        canvas.lines(((x + side * dx, EYE_HEIGHT + dy) for dx, dy in arch), brow, 9 if woman else 15)


def _paint_glasses(canvas: _Canvas) -> None:
    image, at, color = canvas.image, canvas.at, (26, 24, 24)
    for side in (-1, 1):
        cv2.ellipse(image, at(side * 0.032, EYE_HEIGHT), (34, 30), 0, 0, 360, color, 7, cv2.LINE_AA)
        cv2.line(image, at(side * 0.05, EYE_HEIGHT + 0.004), at(side * 0.085, EYE_HEIGHT, -0.02), color, 8)
    cv2.line(image, at(-0.012, EYE_HEIGHT + 0.002), at(0.012, EYE_HEIGHT + 0.002), color, 7, cv2.LINE_AA)


def _paint_hairline(canvas: _Canvas, color: Array) -> None:
    for angle in np.linspace(1.85, np.pi, 20):
        for side in (-1, 1):
            cx = int(float(angle_to_u(side * angle)) * SHEET * FINE)
            cy = canvas.at(0, 1.685 - 0.035 * (angle - 1.85))[1]
            cv2.ellipse(canvas.image, (cx, cy), (50, 100), 0, 0, 360, color.tolist(), -1)


def _strands(rng: Rng, color: Vector, kind: str) -> Array:
    """Hair or the cloth of a hat."""
    if kind == "beanie":
        ribs = 1 + 0.12 * np.sin(np.arange(SHEET) / SHEET * 2 * np.pi * 60)
        return plain(color, SHEET, SHEET) * ribs[None, :, None].astype(np.float32)
    if kind == "cap":
        return cloth(rng, SHEET, SHEET, "plain", color, color, 10)
    stretch, scale = (1.0, 8) if kind == "afro" else (5.0, 9)
    streaks = noise(rng, SHEET, SHEET, scale, 3, stretch)
    waves = noise(rng, SHEET, SHEET, 40, 2, 2.0)
    return plain(np.asarray(color) + 6, SHEET, SHEET) * np.clip(1 + 0.2 * streaks + 0.1 * waves, 0.4, 1.8)[..., None]


def _shoe(rng: Rng) -> Array:
    tones = np.array([(34, 30, 28), (236, 234, 230), (96, 62, 40), (60, 66, 84), (170, 46, 44), (120, 120, 122)])
    image = plain(tones[rng.integers(len(tones))], SHEET, SHEET)
    sole = (238, 236, 230) if rng.random() < 0.6 else (22, 20, 20)
    image[_row("shoe", 0.022) :] = sole
    if rng.random() < 0.6:
        front = slice(_column(-0.5), _column(0.5))
        for y in (0.072, 0.084, 0.096):
            image[_row("shoe", y) - 2 : _row("shoe", y), front] = (214, 212, 208)
    return image * (1 + 0.04 * noise(rng, SHEET, SHEET, 30, 3))[..., None]


def mipmaps(atlas: Image, levels: int = 4) -> list[Image]:
    """The atlas and its halves, for people further away."""
    maps: list[Image] = [atlas]
    for _ in range(levels - 1):
        h, w = maps[-1].shape[:2]
        maps.append(cv2.resize(maps[-1], (w // 2, h // 2), interpolation=cv2.INTER_AREA).astype(np.uint8))
    return maps
