"""What does a whole video look and sound like? Twelve events behind nuisances private to each
modality.

Picture and sound share the event and its `Timing`, and nothing else. The nuisances are drawn from a
generator of that modality alone, the same way for every event, so that they say nothing about the
class and nothing about the other modality:

    picture   background kind (plain, gradient, stripes, checker, blobs), its two colours, scale,
              direction; the object's colour, place and size; camera drift, sway and roll; exposure
              that changes; grain
    sound     pitch; gain; a hum of steady tones; a bed of noise with its own bands, tilt and slow
              swells; the microphone, whose response rises and falls with frequency

Everything of video i is a function of (seed, i). Pictures are frames_THWC uint8 RGB, sound is mono
float32 in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seehear.data.synthetic import pictures, sounds
from seehear.data.synthetic.pictures import Canvas, Painter
from seehear.data.synthetic.sounds import SAMPLE_RATE_HZ, Voice
from seehear.data.synthetic.timing import Array, draw_timing

FRAMES_PER_SECOND = 16

# How hard it is. The frame is 2 units wide and high; an object of size 1 fills most of it.
OBJECT_SIZE = (0.6, 0.9)  # smallest and largest scale of the object
OBJECT_PLACE = 0.5  # the object's middle lies up to this far from the frame's, in units, each way
ROLL = 0.8  # the camera is turned about its axis by up to this, in radians, each way
ROLL_DRIFT = 0.3  # and turns on by up to this over the video
CAMERA_DRIFT = 0.7  # the background moves up to this far over the video, in units, each way
PARALLAX = 0.3  # the object moves by this share of the background's movement: the camera follows it
BACKGROUND_CONTRAST = (0.05, 0.45)  # luminance between the background's two colours, of 1
OBJECT_CONTRAST = (
    0.36  # least luminance between the object and either colour of the background, of 1
)
EXPOSURE = (0.7, 1.15)  # brightness of the whole video, a factor
FLICKER = 0.25  # the exposure changes by up to this share within the video
GRAIN = (1.0, 8.0)  # standard deviation of the grain, in levels of 255
PITCH_OCTAVES = 1.4  # the pitch lies up to this far above or below the event's own
GAIN_DB = (-6.0, 0.0)  # loudness of the whole video
NOISE_DB = (-35.0, -20.0)  # level of the noise bed below the event
NOISE_SWELL_DB = 6.0  # the noise bed swells by up to this much within the video
HUM_TONES = 4  # how many tones hum
HUM_HZ = (50.0, 5000.0)  # their frequencies, drawn evenly on a log scale
HUM_DB = (-45.0, -20.0)  # level of each tone below the event
MICROPHONE_DB = 6.0  # the microphone's response lies up to about this far above or below flat


@dataclass(frozen=True)
class Event:
    """A kind of event: how it looks, how it sounds, and its tempo.

    Args:
        paint: draws the picture.
        sound: makes the sound.
        period_s: shortest and longest time between two beats.
        unevenness: how far a gap between two beats may differ from the tempo, as a share.
    """

    paint: Painter
    sound: Voice
    period_s: tuple[float, float]
    unevenness: float = 0.03


CATALOGUE: dict[str, Event] = {
    "bouncing ball": Event(pictures.ball, sounds.thud, (0.5, 0.8)),
    "pendulum": Event(pictures.pendulum, sounds.tick, (0.4, 0.65)),
    "spinning bar": Event(pictures.spin, sounds.whoosh, (0.6, 1.0)),
    "blinking lamp": Event(pictures.lamp, sounds.beep, (0.45, 0.75)),
    "drips": Event(pictures.drips, sounds.plink, (0.45, 0.7), unevenness=0.25),
    "rain": Event(pictures.rain, sounds.hiss, (0.6, 1.2)),
    "sweeping beam": Event(pictures.beam, sounds.siren, (0.8, 1.3)),
    "bursting ring": Event(pictures.burst, sounds.bang, (0.5, 0.8), unevenness=0.15),
    "flapping wings": Event(pictures.wings, sounds.chirp, (0.45, 0.75)),
    "shaking box": Event(pictures.shake, sounds.drone, (0.6, 1.2)),
    "travelling wave": Event(pictures.wave, sounds.surf, (0.9, 1.4)),
    "sliding square": Event(pictures.slide, sounds.glide, (2.0, 3.2)),
}
EVENTS: tuple[str, ...] = tuple(CATALOGUE)


def event_of(seed: int, number: int, classes: int) -> str:
    """The class of video `number`: each run of `classes` videos has every class once."""
    order = np.random.default_rng([seed, number // classes, 1]).permutation(classes)
    return EVENTS[int(order[number % classes])]


def render(
    seed: int,
    number: int,
    *,
    classes: int = len(EVENTS),
    seconds: float = 2.0,
    size_pixels: int = 64,
    event: str | None = None,
) -> tuple[NDArray[np.uint8], Array, str]:
    """Make one video without a file.

    Args:
        seed: the seed of the whole set.
        number: which video of the set.
        classes: how many of `EVENTS` the set has, from the first on.
        seconds: its length.
        size_pixels: its width and height.
        event: one of `EVENTS` instead of the video's own class.

    Returns:
        frames_THWC uint8 RGB at 16 frames a second, waveform_S float32 mono in [-1, 1] at 16 kHz,
        the class.
    """
    name = event_of(seed, number, classes) if event is None else event
    shared, seen, heard = (
        np.random.default_rng(child) for child in np.random.SeedSequence([seed, number]).spawn(3)
    )
    kind = CATALOGUE[name]
    timing = draw_timing(shared, seconds, kind.period_s, kind.unevenness)
    t_T = np.arange(round(seconds * FRAMES_PER_SECOND), dtype=np.float32) / FRAMES_PER_SECOND
    t_S = np.arange(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32) / SAMPLE_RATE_HZ

    canvas, background_THWC, colour_C = set_stage(seen, t_T, size_pixels)
    cover_THW = kind.paint(canvas, timing, seen)
    frames_THWC = photograph(seen, background_THWC, cover_THW, colour_C)

    pitch = float(2 ** heard.uniform(-PITCH_OCTAVES, PITCH_OCTAVES))
    waveform_S = record(heard, kind.sound(t_S, timing, pitch, heard))
    return frames_THWC, waveform_S, name


# Nuisances of the picture.


def set_stage(
    rng: np.random.Generator, t_T: Array, size_pixels: int
) -> tuple[Canvas, Array, Array]:
    """Draw the object's canvas, background_THWC, and the object's colour_C in [0, 1]."""
    place_P = ((np.arange(size_pixels, dtype=np.float32) + 0.5) / size_pixels) * 2 - 1
    roll_T11 = camera_roll(rng, t_T)[:, None, None]
    cos, sin = np.cos(roll_T11), np.sin(roll_T11)
    x_THW = cos * place_P + sin * place_P[:, None]
    y_THW = cos * place_P[:, None] - sin * place_P
    camera_2T = camera_path(rng, t_T)[..., None, None]

    size = np.float32(np.exp(rng.uniform(*np.log(OBJECT_SIZE))))
    middle_x, middle_y = rng.uniform(-OBJECT_PLACE, OBJECT_PLACE, 2).astype(np.float32)
    near_2T = PARALLAX * (camera_2T - camera_2T.mean(axis=1, keepdims=True))
    canvas = Canvas(
        (x_THW - middle_x - near_2T[0]) / size,
        (y_THW - middle_y - near_2T[1]) / size,
        t_T[:, None, None],
        pixel=2 / size_pixels / float(size),
    )
    first_C, second_C, object_C = colours(rng)
    mix_THW = background(rng, x_THW - camera_2T[0], y_THW - camera_2T[1])
    background_THWC = first_C + mix_THW[..., None] * (second_C - first_C)
    return canvas, background_THWC, object_C


def camera_roll(rng: np.random.Generator, t_T: Array) -> Array:
    """How far the camera is turned about its axis in each frame, in radians."""
    turn, drift = rng.uniform(-ROLL, ROLL), rng.uniform(-ROLL_DRIFT, ROLL_DRIFT)
    roll_T: Array = (turn + drift * (t_T / t_T[-1] - 0.5)).astype(np.float32)
    return roll_T


def camera_path(rng: np.random.Generator, t_T: Array) -> Array:
    """Where the camera is in each frame, (2, T): a steady drift and a slow sway."""
    drift_2 = rng.uniform(-CAMERA_DRIFT, CAMERA_DRIFT, 2)
    sway_2 = rng.uniform(-CAMERA_DRIFT, CAMERA_DRIFT, 2) / 5
    hz_2, phase_2 = rng.uniform(0.3, 1.0, 2), rng.uniform(0, 2 * np.pi, 2)
    seconds = t_T[-1] + 1 / FRAMES_PER_SECOND
    turn_2T = 2 * np.pi * hz_2[:, None] * t_T + phase_2[:, None]
    path_2T: Array = drift_2[:, None] * t_T / seconds + sway_2[:, None] * np.sin(turn_2T)
    return path_2T.astype(np.float32)


def background(rng: np.random.Generator, x_THW: Array, y_THW: Array) -> Array:
    """Draw one of five kinds of background: mix_THW in [0, 1], the second colour's share."""
    kind = rng.integers(5)
    angle, per_unit = rng.uniform(0, np.pi), 2 * np.pi * rng.uniform(0.4, 1.4)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    offset_2 = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
    along_THW: Array = cos * x_THW + sin * y_THW
    if kind == 0:  # plain
        return along_THW * 0
    if kind == 1:  # gradient
        return (0.5 + 0.4 * along_THW).clip(0, 1)
    across_THW = cos * y_THW - sin * x_THW
    first: Array = np.sin(per_unit * along_THW + offset_2[0])
    if kind == 2:  # stripes
        return (0.5 + 3 * first).clip(0, 1)
    second: Array = np.sin(per_unit * across_THW + offset_2[1])
    if kind == 3:  # checker
        return (0.5 + 6 * first * second).clip(0, 1)
    third: Array = np.sin(
        per_unit * (0.6 * along_THW - 1.3 * across_THW) + offset_2[0] + offset_2[1]
    )
    return (0.5 + 0.9 * (first + second + third)).clip(0, 1)  # blobs


def colours(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Draw the background's two colours and the object's, RGB in [0, 1], of bounded contrasts."""
    low, high = BACKGROUND_CONTRAST
    while True:  # about one draw in 24 fits
        some_NC = rng.uniform(0, 1, (3, 3)).astype(np.float32)
        luminance_N = some_NC @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        first, second, thing = luminance_N
        stands_out = min(abs(thing - first), abs(thing - second)) >= OBJECT_CONTRAST
        if stands_out and low <= abs(first - second) <= high:
            return some_NC[0], some_NC[1], some_NC[2]


def photograph(
    rng: np.random.Generator, background_THWC: Array, cover_THW: Array, colour_C: Array
) -> NDArray[np.uint8]:
    """Put the object before the background; take the picture with exposure, flicker and grain."""
    frames_THWC: Array = background_THWC + cover_THW[..., None] * (colour_C - background_THWC)
    frames = len(frames_THWC)
    hz, phase = rng.uniform(0.2, 1.5), rng.uniform(0, 2 * np.pi)
    turn_T = 2 * np.pi * hz * np.arange(frames) / FRAMES_PER_SECOND + phase
    flicker_T = rng.uniform(0, FLICKER) * np.sin(turn_T)
    exposure_T = (rng.uniform(*EXPOSURE) * (1 + flicker_T)).astype(np.float32)
    frames_THWC *= 255 * exposure_T[:, None, None, None]
    grain_THW = rng.standard_normal(cover_THW.shape, dtype=np.float32) * np.float32(
        rng.uniform(*GRAIN)
    )
    frames_THWC += grain_THW[..., None]
    return frames_THWC.clip(0, 255).astype(np.uint8)


# Nuisances of the sound.


def record(rng: np.random.Generator, event_S: Array) -> Array:
    """Add hum and noise bed to an event's sound, and record it with a microphone and a gain."""
    clean_S = event_S / loudness(event_S)
    heard_S = microphone(rng, clean_S + noise_bed(rng, len(event_S)) + hum(rng, len(event_S)))
    gain = 0.95 * 10 ** (rng.uniform(*GAIN_DB) / 20)
    return heard_S.astype(np.float32) * np.float32(gain / np.max(np.abs(heard_S)))


def noise_bed(rng: np.random.Generator, samples: int) -> Array:
    """Two noises, each with its own band, tilt, level and slow swell."""
    t_S = np.arange(samples, dtype=np.float32) / SAMPLE_RATE_HZ
    bed_S = np.zeros(samples, dtype=np.float32)
    for _ in range(2):
        low_hz, high_hz = np.sort(np.exp(rng.uniform(np.log(40), np.log(8000), 2)))
        level_db = rng.uniform(*NOISE_DB)
        swell_hz, phase = rng.uniform(0.2, 1.5), rng.uniform(0, 1)
        swell_db = rng.uniform(0, NOISE_SWELL_DB) * np.sin(2 * np.pi * (swell_hz * t_S + phase))
        part_S = sounds.noise(rng, samples, low_hz, high_hz, tilt=rng.uniform(0, 1))
        bed_S += part_S * 10 ** ((level_db + swell_db) / 20)
    return bed_S


def hum(rng: np.random.Generator, samples: int) -> Array:
    """Steady tones, each beating slowly at its own rate: mains, fans, coils."""
    t_S = np.arange(samples, dtype=np.float32) / SAMPLE_RATE_HZ
    hum_S = np.zeros(samples, dtype=np.float32)
    for _ in range(HUM_TONES):
        hz, level_db = np.exp(rng.uniform(*np.log(HUM_HZ))), rng.uniform(*HUM_DB)
        depth, beat_hz, phase = rng.uniform(0, 0.8), rng.uniform(0.3, 3), rng.uniform(0, 1)
        beating_S = 1 + depth * np.sin(2 * np.pi * (beat_hz * t_S + phase))
        hum_S += 10 ** (level_db / 20) * beating_S * np.sin(2 * np.pi * hz * t_S)
    return hum_S


def loudness(sound_S: Array) -> float:
    """Root mean square of the loudest tenth of a second: then clicks are as loud as drones."""
    width = SAMPLE_RATE_HZ // 10
    power = np.cumsum(np.pad(sound_S.astype(np.float64) ** 2, (width, 0)))
    return float(np.sqrt(np.max(power[width:] - power[:-width]) / width)) + 1e-6


def microphone(rng: np.random.Generator, sound_S: Array) -> Array:
    """Filter with a smooth response in decibels: a few waves along the log of the frequency."""
    hz = np.fft.rfftfreq(len(sound_S), 1 / SAMPLE_RATE_HZ)
    octave = np.log2(np.maximum(hz, 40) / 40)
    gain_db = sum(
        rng.uniform(-1, 1)
        * MICROPHONE_DB
        / 2
        * np.sin(2 * np.pi * (octave / length + rng.uniform(0, 1)))
        for length in (16, 8, 5, 3.5)
    )
    filtered_S: Array = np.fft.irfft(np.fft.rfft(sound_S) * 10 ** (gain_db / 20), len(sound_S))
    return filtered_S
