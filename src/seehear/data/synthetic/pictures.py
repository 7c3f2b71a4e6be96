"""What does each event look like? Twelve small functions that draw one moving shape each.

A painter gets a `Canvas` (where each pixel is), the `Timing` it shares with its sound and a
generator for what is its own. It returns the shape as cover_THW, float32 in [0, 1]: 1 where the
object hides what is behind it. The object is 2 units wide at most: x runs right, y runs down, and
(0, 0) is its middle. Where that is in the frame, how large, in which colour and before what
background, `scenes.py` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seehear.data.synthetic.timing import Array, Timing


@dataclass(frozen=True)
class Canvas:
    """Where the pixels are, in the object's own units.

    Args:
        x_THW: how far right of the object's middle, in every frame.
        y_THW: how far below it.
        t_T11: the time of each frame in seconds.
        pixel: the width of one pixel, which is how soft an edge is.
    """

    x_THW: Array
    y_THW: Array
    t_T11: Array
    pixel: float


Painter = Callable[[Canvas, Timing, np.random.Generator], Array]


def ball(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """A ball bounces on a floor; it touches the floor on the beat."""
    fraction = timing.turns(canvas.t_T11) % 1
    height = 4 * fraction * (1 - fraction)
    floor = box(canvas, 0, 0.9, 0.8, 0.09)
    return np.maximum(floor, disc(canvas, 0, 0.52 - 1.15 * height, 0.29))


def pendulum(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """A bob swings on a rod; it passes the lowest point on the beat."""
    angle = rng.uniform(0.6, 0.85) * np.sin(np.pi * timing.turns(canvas.t_T11))
    x, y = 1.3 * np.sin(angle), -0.85 + 1.3 * np.cos(angle)
    return np.maximum(line(canvas, 0, -0.85, x, y, 0.07), disc(canvas, x, y, 0.26))


def spin(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """A bar spins about its middle; it stands upright on the beat."""
    angle = rng.choice([-1, 1]) * np.pi * timing.turns(canvas.t_T11)
    x, y = 0.8 * np.sin(angle), 0.8 * np.cos(angle)
    return line(canvas, -x, -y, x, y, 0.15)


def lamp(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """A round lamp lights up on the beat and goes out half-way to the next; its rim stays."""
    lit = (timing.turns(canvas.t_T11) % 1 < 0.5) & (timing.since(canvas.t_T11) < 100)
    return np.maximum(ring(canvas, 0, 0, 0.5, 0.06), lit * disc(canvas, 0, 0, 0.5))


def drips(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """Drops fall, each at its own place; on the beat one meets the water, and a ripple widens."""
    fall_s, ripple_s = 0.4, 0.45
    place = rng.uniform(-0.4, 0.4, len(timing.beats_s) + 1).astype(np.float32)
    last = timing.last(canvas.t_T11)
    fallen = 1 - timing.until(canvas.t_T11) / fall_s
    y = -0.9 + 1.4 * np.maximum(fallen, 0) ** 2
    drop = disc(canvas, place[last + 1], y, 0.2) * (fallen > 0)
    age = timing.since(canvas.t_T11) / ripple_s
    flat = Canvas(
        canvas.x_THW - place[last], (canvas.y_THW - 0.6) / 0.35, canvas.t_T11, canvas.pixel
    )
    ripple = ring(flat, 0, 0, 0.15 + 0.7 * np.sqrt(np.minimum(age, 1)), 0.13) * (age < 1)
    cover_THW: Array = np.maximum(drop, ripple)
    return cover_THW


def rain(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """Slanted streaks fall everywhere, all the time; a gust lengthens them on the beat."""
    lanes, gap = 64, 1.1
    slant, width = rng.uniform(-0.35, 0.35), 0.2
    offset = rng.uniform(0, gap, lanes).astype(np.float32)
    speed = rng.uniform(0.8, 1.2, lanes).astype(np.float32) * 1.6
    across = (canvas.x_THW - slant * canvas.y_THW) / width
    lane = np.floor(across).astype(np.intp) % lanes
    gust = 0.5 + 0.5 * np.cos(2 * np.pi * timing.turns(canvas.t_T11))
    fallen_s = np.maximum(canvas.t_T11 - timing.onset_s, 0)
    along = (canvas.y_THW - offset[lane] - speed[lane] * fallen_s) % gap
    middle = np.abs(across % 1 - 0.5) * width
    edge = np.maximum(middle - 0.05, np.abs(along - gap / 2) - 0.18 - 0.08 * gust)
    return soft(edge, canvas.pixel)


def beam(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """A beam of light sweeps to and fro about a lamp on the ground; on the beat it points up."""
    angle = 0.95 * np.sin(2 * np.pi * timing.turns(canvas.t_T11))
    x, y = canvas.x_THW, canvas.y_THW - 0.85
    along = x * np.sin(angle) - y * np.cos(angle)
    across = np.abs(x * np.cos(angle) + y * np.sin(angle))
    wedge = soft(np.maximum(across - 0.24 * along, along - 1.8), canvas.pixel)
    return np.maximum(wedge, disc(canvas, 0, 0.85, 0.17))


def burst(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """A ring bursts open on the beat, each time at another place, and fades as it grows."""
    place = rng.uniform(-0.25, 0.25, (2, len(timing.beats_s))).astype(np.float32)
    x, y = place[:, timing.last(canvas.t_T11)]
    age_s = timing.since(canvas.t_T11)
    shell = ring(canvas, x, y, 1.0 * (1 - np.exp(-age_s / 0.2)), 0.17)
    return shell * np.exp(-age_s / 0.5)


def wings(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """A bird flaps two wings; they are highest on the beat."""
    lift = np.cos(2 * np.pi * timing.turns(canvas.t_T11))
    tip_y, body_y = 0.1 - 0.65 * lift, 0.1 + 0.08 * lift
    left = line(canvas, -0.8, tip_y, 0, body_y, 0.13)
    right = line(canvas, 0.8, tip_y, 0, body_y, 0.13)
    return np.maximum(np.maximum(left, right), disc(canvas, 0, body_y, 0.24))


def shake(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """A hollow box shakes and jerks; most strongly where the engine revs, on the beat."""
    rev = 0.5 + 0.5 * np.cos(2 * np.pi * timing.turns(canvas.t_T11))
    moving = (canvas.t_T11 >= timing.onset_s) * (0.7 + 0.3 * rev)
    x, y, angle = rng.uniform(-1, 1, (3, *canvas.t_T11.shape)).astype(np.float32) * moving
    cos, sin = np.cos(0.25 * angle), np.sin(0.25 * angle)
    right, down = canvas.x_THW - 0.22 * x, canvas.y_THW - 0.22 * y
    away = np.maximum(np.abs(cos * right + sin * down), np.abs(cos * down - sin * right))
    return soft(np.abs(away - 0.5) - 0.12, canvas.pixel)


def wave(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """A wave travels along a surface of water; its crest passes the middle on the beat."""
    phase = timing.turns(canvas.t_T11) + rng.choice([-1, 1]) * canvas.x_THW * rng.uniform(0.5, 0.8)
    surface_y = 0.2 - 0.38 * np.cos(2 * np.pi * phase)
    return soft(surface_y - canvas.y_THW, canvas.pixel)


def slide(canvas: Canvas, timing: Timing, rng: np.random.Generator) -> Array:
    """A square slides steadily to and fro; it is at one end on the beat."""
    side, tilt = rng.choice([-1, 1]), rng.uniform(-0.3, 0.3)
    x = 0.75 * side * triangle(timing.turns(canvas.t_T11))
    return box(canvas, x, tilt * x, 0.3, 0.3)


def triangle(turns: Array) -> Array:
    """A steady walk between 1, on the beat, and -1, half-way to the next."""
    return np.abs(turns % 1 - 0.5) * 4 - 1


# Shapes, with edges one pixel soft. The places are numbers or arrays of one value a frame (T, 1,
# 1).

Place = Array | float


def soft(outside: Array, pixel: float) -> Array:
    """Cover of a shape from the distance to its edge: 1 inside (negative), 0 outside."""
    return np.clip(0.5 - outside / np.float32(pixel), 0, 1)


def disc(canvas: Canvas, x: Place, y: Place, radius: Place) -> Array:
    """A filled circle."""
    return soft(np.sqrt((canvas.x_THW - x) ** 2 + (canvas.y_THW - y) ** 2) - radius, canvas.pixel)


def ring(canvas: Canvas, x: Place, y: Place, radius: Place, half_width: float) -> Array:
    """A circle drawn with a pen."""
    away = np.sqrt((canvas.x_THW - x) ** 2 + (canvas.y_THW - y) ** 2)
    return soft(np.abs(away - radius) - half_width, canvas.pixel)


def box(canvas: Canvas, x: Place, y: Place, half_width: float, half_height: float) -> Array:
    """A filled, upright rectangle."""
    outside = np.maximum(
        np.abs(canvas.x_THW - x) - half_width, np.abs(canvas.y_THW - y) - half_height
    )
    return soft(outside, canvas.pixel)


def line(canvas: Canvas, x0: Place, y0: Place, x1: Place, y1: Place, half_width: float) -> Array:
    """A line with round ends."""
    right, down = x1 - x0, y1 - y0
    x, y = canvas.x_THW - x0, canvas.y_THW - y0
    share = np.clip((x * right + y * down) / (right**2 + down**2), 0, 1)
    return soft(
        np.sqrt((x - share * right) ** 2 + (y - share * down) ** 2) - half_width, canvas.pixel
    )
