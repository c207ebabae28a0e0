"""Textures made by the program: noise, cloth, wood, stone, plaster, facades, sky; (h, w, 3) RGB, most tileable."""

from __future__ import annotations

import cv2
import numpy as np

from pave_ros.synthetic.arrays import Array, Image, Rng, Vector


def noise(rng: Rng, height: int, width: int, scale: float, octaves: int = 4, stretch: float = 1.0) -> Array:
    """(h, w) smooth tileable noise about 0 with a spread of about 1; `scale` is the size of the coarsest blots in
    pixels, `stretch` how many times taller than wide they are."""
    total = np.zeros((height, width), np.float32)
    gain = 1.0
    for _ in range(octaves):
        h, w = max(1, round(height / (scale * stretch))), max(1, round(width / scale))
        grid = np.pad(rng.standard_normal((h, w)).astype(np.float32), 3, mode="wrap")
        y = (np.arange(height, dtype=np.float32) + 0.5) * h / height + 2.5
        x = (np.arange(width, dtype=np.float32) + 0.5) * w / width + 2.5
        total += gain * cv2.remap(grid, *np.meshgrid(x, y), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        gain *= 0.55
        scale /= 2
        if scale < 1:
            break
    return total / max(float(total.std()), 1e-6)


def plain(color: Vector, height: int, width: int) -> Array:
    """(h, w, 3) float32 of one colour."""
    return np.broadcast_to(np.asarray(color, np.float32), (height, width, 3)).copy()


def to_image(values: Array) -> Image:
    """Rounded and cut to 0..255."""
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def _mix(a: Array, b: Vector, share: Array) -> Array:
    return a + (np.asarray(b, np.float32) - a) * share[..., None]


def cloth(rng: Rng, height: int, width: int, pattern: str, color: Vector, second: Vector, repeat: float) -> Array:
    """(h, w, 3) float32 cloth. `pattern`: plain, stripes, pinstripes, checks, plaid, dots, melange, denim, flowers;
    `repeat` is the pattern's period in pixels; it is adjusted to close around the width."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    period = width / max(1, round(width / repeat))
    base = plain(color, height, width)
    match pattern:
        case "stripes":
            base = _mix(base, second, (np.mod(y, repeat) < repeat * 0.45).astype(np.float32))
        case "pinstripes":
            base = _mix(base, second, 0.7 * (np.mod(x, period) < max(1.5, period * 0.12)).astype(np.float32))
        case "checks":
            share = 0.5 * (np.mod(x, period) < period / 2) + 0.5 * (np.mod(y, repeat) < repeat / 2)
            base = _mix(base, second, share.astype(np.float32))
        case "plaid":
            wide = 0.4 * (np.mod(x, period) < period * 0.5) + 0.4 * (np.mod(y, repeat) < repeat * 0.5)
            thin = (np.abs(np.mod(x, period) - period * 0.75) < 1.2) | (np.abs(np.mod(y, repeat) - repeat * 0.75) < 1.2)
            base = _mix(_mix(base, second, wide.astype(np.float32)), (235, 230, 215), 0.5 * thin.astype(np.float32))
        case "dots":
            odd = np.mod(np.floor(y / repeat), 2) * period / 2
            u, v = np.mod(x + odd, period) - period / 2, np.mod(y, repeat) - repeat / 2
            base = _mix(base, second, (u * u + v * v < (repeat * 0.24) ** 2).astype(np.float32))
        case "flowers":
            spots = noise(rng, height, width, repeat, 2)
            base = _mix(base, second, (spots > 0.9).astype(np.float32))
            base = _mix(base, (240, 230, 200), (noise(rng, height, width, repeat, 2) > 1.3).astype(np.float32))
        case "melange":
            base = _mix(base, second, np.clip(0.15 + 0.12 * noise(rng, height, width, 3, 2), 0, 0.5))
        case "denim":
            fade = np.clip(0.2 * noise(rng, height, width, 60, 3) + 0.15 * noise(rng, height, width, 2, 1), -0.3, 0.5)
            base = _mix(base, second, np.clip(0.2 + fade, 0, 1))
    return base * (1 + 0.02 * noise(rng, height, width, 2, 1))[..., None]


def boards(rng: Rng, color: Vector, size: int = 512, rows: int = 8) -> Image:
    """Wooden floor boards that run along x."""
    image = plain(color, size, size)
    h = size // rows
    grain = noise(rng, size, size, 64, 5, stretch=0.08)
    for r in range(rows):
        cut = int(rng.integers(0, size))
        for part in (slice(0, cut), slice(cut, size)):
            image[r * h : (r + 1) * h, part] *= 1 + 0.10 * rng.standard_normal()
        image[r * h : r * h + 2] *= 0.62
        image[r * h : (r + 1) * h, cut : cut + 2] *= 0.65
    return to_image(image * (1 + 0.06 * grain)[..., None])


def tiles(rng: Rng, color: Vector, joint: Vector, size: int = 512, n: int = 4, checker: float = 0.0) -> Image:
    """Square tiles with joints; `checker` darkens every other tile by that share."""
    image = plain(color, size, size) * (1 + 0.03 * noise(rng, size, size, 40, 4))[..., None]
    s = size // n
    for i in range(n):
        for j in range(n):
            tone = 1 + 0.03 * rng.standard_normal() - checker * ((i + j) % 2)
            image[i * s : (i + 1) * s, j * s : (j + 1) * s] *= tone
    for k in range(n):
        image[k * s : k * s + 3] = joint
        image[:, k * s : k * s + 3] = joint
    return to_image(image)


def speckle(rng: Rng, color: Vector, amount: float, size: int = 512, scale: float = 3) -> Image:
    """Carpet, asphalt, concrete: fine noise with some larger blots."""
    shade = 1 + amount * (0.6 * noise(rng, size, size, scale, 2) + 0.5 * noise(rng, size, size, 120, 4))
    return to_image(plain(color, size, size) * shade[..., None])


def plaster(rng: Rng, color: Vector, size: int = 512) -> Image:
    """A painted wall."""
    return to_image(plain(color, size, size) * (1 + 0.012 * noise(rng, size, size, 200, 6))[..., None])


def bricks(rng: Rng, color: Vector, joint: Vector = (176, 170, 160), size: int = 512, rows: int = 16) -> Image:
    """Brickwork in stretcher bond."""
    image = plain(joint, size, size)
    h, w = size // rows, size // (rows // 2)
    for r in range(rows):
        for c in range(-1, rows // 2 + 1):
            x = c * w + (r % 2) * w // 2
            tone = np.asarray(color, np.float32) * (1 + 0.12 * rng.standard_normal())
            cv2.rectangle(image, (x + 2, r * h + 2), (x + w - 2, (r + 1) * h - 2), tone.tolist(), -1)
    return to_image(image * (1 + 0.05 * noise(rng, size, size, 20, 4))[..., None])


def grass(rng: Rng, color: Vector, size: int = 512) -> Image:
    """A lawn."""
    shade = 1 + 0.16 * noise(rng, size, size, 6, 3, 1.5) + 0.12 * noise(rng, size, size, 160, 4)
    image = plain(color, size, size) * shade[..., None]
    return to_image(_mix(image, (150, 140, 80), np.clip(0.2 * noise(rng, size, size, 90, 5), 0, 0.5)))


def facade(rng: Rng, wall: Image, columns: int, floors: int, cell: int = 96) -> Image:
    """A house front of `floors` rows of windows, the lowest a row of shop windows and doors."""
    h, w = floors * cell, columns * cell
    image = np.tile(wall, (h // wall.shape[0] + 1, w // wall.shape[1] + 1, 1))[:h, :w].copy()
    frame = tuple(int(v) for v in rng.integers(60, 240, 3)) if rng.random() < 0.4 else (225, 222, 214)
    tall, wide = rng.uniform(0.5, 0.7), rng.uniform(0.4, 0.66)
    for f in range(floors):
        for c in range(columns):
            ground = f == floors - 1
            fh, fw = (0.78, 0.84) if ground else (tall, wide)
            x0, y0 = (
                int((c + 0.5 - fw / 2) * cell),
                int((f + 0.94 - fh) * cell if ground else (f + 0.55 - fh / 2) * cell),
            )
            x1, y1 = int(x0 + fw * cell), int(y0 + fh * cell)
            window(rng, image[y0:y1, x0:x1], frame, lit=0.5 if ground else 0.08)
            if not ground:
                image[y1 : y1 + 5, x0 - 3 : x1 + 3] = np.array([200, 196, 188]) * rng.uniform(0.8, 1)
        image[f * cell : f * cell + 2] = (image[f * cell : f * cell + 2] * 0.8).astype(np.uint8)
    return image


def window(rng: Rng, area: Image, frame: Vector, lit: float = 0.1) -> None:
    """Paint a window with frame, sky reflection, or a lit room, into an area of a picture."""
    h, w = area.shape[:2]
    if h < 8 or w < 8:
        return
    ramp = np.linspace(1.15, 0.65, h, dtype=np.float32)[:, None, None]
    glass = np.array([96, 118, 138]) * rng.uniform(0.5, 1.2) if rng.random() > lit else np.array([232, 204, 150])
    area[:] = to_image(plain(glass, h, w) * ramp * (1 + 0.15 * noise(rng, h, w, max(h, 8) / 1.5, 3))[..., None])
    if rng.random() < 0.5:
        side = int(w * rng.uniform(0.1, 0.3))
        area[:, :side] = area[:, :side] // 2 + 100
        area[:, w - side :] = area[:, w - side :] // 2 + 100
    t = max(2, min(h, w) // 22)
    color = [int(v) for v in frame]
    cv2.rectangle(area, (0, 0), (w - 1, h - 1), color, t * 2)
    cv2.line(area, (w // 2, 0), (w // 2, h), color, t)
    if rng.random() < 0.6:
        cv2.line(area, (0, h // 3), (w, h // 3), color, t)


def painting(rng: Rng, height: int, width: int) -> Image:
    """A framed picture or poster for a wall."""
    hue = rng.uniform(40, 230, (3, 3))
    field = noise(rng, height, width, width / rng.uniform(1, 4), 4)
    image = _mix(_mix(plain(hue[0], height, width), hue[1], np.clip(field, 0, 1)), hue[2], np.clip(-field - 0.5, 0, 1))
    if rng.random() < 0.5:
        image = _mix(
            image, hue[2], (np.linspace(0, 1, height)[:, None] > rng.uniform(0.4, 0.7)) * np.ones((1, width)) * 0.8
        )
    edge = max(3, height // 18)
    tone = rng.choice(np.array([[28, 26, 24], [120, 84, 50], [238, 236, 230]]))
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), (245, 243, 238), edge * 4)
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), tone.tolist(), edge * 2)
    return to_image(image)


def sky(rng: Rng, rays: Array, clouds: float) -> Array:
    """(H, W, 3) float32 sky along the rays (H, W, 3)."""
    up = np.clip(rays[..., 1], 0, 1)[..., None]
    top, low = np.array([96, 148, 214], np.float32), np.array([214, 226, 236], np.float32)
    image = low + (top - low) * np.power(up, 0.55)
    field = noise(rng, 512, 512, 170, 6)
    u = (rays[..., 0] / (np.abs(rays[..., 1]) + 0.18) * 120).astype(np.float32)
    v = (rays[..., 2] / (np.abs(rays[..., 1]) + 0.18) * 120).astype(np.float32)
    cover = cv2.remap(field, np.mod(u, 510), np.mod(v, 510), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    cover = np.clip((cover + clouds * 2.4 - 1.2) * 0.6, 0, 1)
    return _mix(image, (244, 244, 246), cover * np.clip(up[..., 0] * 6, 0, 1))


def skyline(rng: Rng, rays: Array, color: Array) -> Array:
    """The sky picture with a band of distant trees above the horizon, hazy."""
    bearing = np.arctan2(rays[..., 0], -rays[..., 2])
    ridge = noise(rng, 4, 2048, 300, 7)[1]
    at = np.clip((bearing / np.pi + 1) * 1024, 0, 2047).astype(np.int32)
    top = 0.045 + 0.018 * np.clip(ridge, -2, 2)[at]
    speck = noise(rng, rays.shape[0], rays.shape[1], 9, 3)
    tree = np.array([88, 108, 84], np.float32) * (1 + 0.05 * speck)[..., None]
    haze = np.array([188, 200, 208], np.float32)
    trees = tree + (haze - tree) * np.clip(0.55 - rays[..., 1:2] * 4, 0.25, 0.6)
    return np.where((rays[..., 1] < top)[..., None], trees, color)
