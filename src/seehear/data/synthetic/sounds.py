"""What does each event sound like? Twelve small functions, one for each painter of `pictures.py`.

A sound gets the time of each sample t_S, the `Timing` it shares with its picture, `pitch` (a factor
of the frequencies, drawn for the video) and a generator for its noise. It returns samples of any
scale: `scenes.py` sets the level and adds gain, hum, a noise bed and a microphone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from seehear.data.synthetic.pictures import triangle
from seehear.data.synthetic.timing import Array, Timing

SAMPLE_RATE_HZ = 16000

Voice = Callable[[Array, Timing, float, np.random.Generator], Array]


def thud(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """The ball hits the floor: a deep tone that drops and dies away."""
    s = timing.since(t_S)
    drop_s = 0.03
    cycles = 140 * pitch * (s + 1.5 * drop_s * (1 - np.exp(-s / drop_s)))
    return np.sin(2 * np.pi * cycles) * np.exp(-s / 0.08)


def tick(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """The clock of the pendulum: dry clicks, tick and tock in turn."""
    s = timing.since(t_S)
    tock = np.where(timing.last(t_S) % 2, 1, 0.8)
    click = np.sin(2 * np.pi * 1700 * pitch * tock * s) + np.sin(
        2 * np.pi * 2800 * pitch * tock * s
    )
    return click * np.exp(-s / 0.008)


def whoosh(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """The bar cuts the air: a narrow band of noise that rises and falls with each half-turn."""
    near = (0.5 + 0.5 * np.cos(2 * np.pi * timing.turns(t_S))) ** 1.5
    hz = 450 * pitch * (1 + 1.5 * near)
    return near * carried_noise(rng, hz, 160) * running(t_S, timing)


def beep(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """The lamp beeps at one pitch for as long as it is lit."""
    lit = (timing.turns(t_S) % 1 < 0.5) & (timing.since(t_S) < 100)
    tone = np.sin(2 * np.pi * 950 * pitch * t_S) + 0.3 * np.sin(2 * np.pi * 2850 * pitch * t_S)
    return tone * smooth(lit.astype(np.float32), 0.006)


def plink(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """A drop meets the water: a short note that bends up."""
    s = timing.since(t_S)
    bend_s = 0.04
    cycles = 1500 * pitch * (s - 0.35 * bend_s * (1 - np.exp(-s / bend_s)))
    return np.sin(2 * np.pi * cycles) * np.exp(-s / 0.055)


def hiss(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """Rain: bright noise without a pause, a little louder in a gust."""
    gust = 0.8 + 0.2 * np.cos(2 * np.pi * timing.turns(t_S))
    return noise(rng, len(t_S), 2200 * pitch, 7000) * gust * running(t_S, timing)


def siren(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """A horn whose pitch swings with the beam, up on one side and down on the other."""
    hz = 650 * pitch * 2 ** (0.55 * np.sin(2 * np.pi * timing.turns(t_S)))
    turn = 2 * np.pi * cycles_of(hz)
    horn = np.sin(turn) + 0.6 * np.sin(2 * turn) + 0.4 * np.sin(3 * turn)
    return horn * running(t_S, timing)


def bang(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """The ring bursts: noise over the whole range that breaks out at once and dies away."""
    s = timing.since(t_S)
    return noise(rng, len(t_S), 60, 5000 * pitch) * np.exp(-s / 0.11)


def chirp(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """The bird calls with each stroke: a fast whistle upwards."""
    length_s = 0.16
    s = np.minimum(timing.since(t_S), length_s)
    cycles = 1400 * pitch * (s + s**2 / length_s / 2)
    return np.sin(2 * np.pi * cycles) * np.sin(np.pi * s / length_s)


def drone(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """An engine: a low rattle of many harmonics that revs with the shaking."""
    hz = 95 * pitch * (1 + 0.25 * np.cos(2 * np.pi * timing.turns(t_S)))
    cycles = cycles_of(hz)
    saw = smooth(2 * (cycles % 1) - 1, 0.0004)
    return saw * (0.7 + 0.3 * np.sin(np.pi * cycles)) * running(t_S, timing)


def surf(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """Breakers: a wide band of low noise that swells slowly and draws back."""
    swell = 0.5 + 0.5 * np.cos(2 * np.pi * timing.turns(t_S))
    low, high = (
        noise(rng, len(t_S), 100, 900 * pitch),
        noise(rng, len(t_S), 900 * pitch, 3500 * pitch),
    )
    return ((0.2 + swell) * low + 0.5 * swell**2 * high) * running(t_S, timing)


def glide(t_S: Array, timing: Timing, pitch: float, rng: np.random.Generator) -> Array:
    """A pure tone whose pitch goes where the square goes."""
    hz = 600 * pitch * 2 ** triangle(timing.turns(t_S))
    return np.sin(2 * np.pi * cycles_of(hz)) * running(t_S, timing)


def running(t_S: Array, timing: Timing) -> Array:
    """The gate of a sound that goes on without a pause from the onset; it opens within 20 ms."""
    return ((t_S - timing.onset_s) / 0.02).clip(0, 1)


def cycles_of(hz_S: Array) -> Array:
    """The cycles that a tone of changing frequency went through, added in float64 and wrapped."""
    return (np.cumsum(hz_S, dtype=np.float64) / SAMPLE_RATE_HZ % 2).astype(np.float32)


def smooth(gate_S: Array, seconds: float) -> Array:
    """Round off the steps of a gate over some seconds, so that they do not click."""
    width = round(seconds * SAMPLE_RATE_HZ)
    total = np.cumsum(np.pad(gate_S, (width, 0), mode="edge"), dtype=np.float64)
    return ((total[width:] - total[:-width]) / width).astype(np.float32)


def noise(
    rng: np.random.Generator, samples: int, low_hz: float, high_hz: float, tilt: float = 0.0
) -> Array:
    """Noise of a band with soft ends, of about unit deviation.

    `tilt` is the fall of the amplitude with the logarithm of the frequency: 0 white, 0.5 pink, 1
    brown.
    """
    hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ).astype(np.float32)
    hz[0] = hz[1]
    shape = hz ** np.float32(-tilt) / np.sqrt((1 + (low_hz / hz) ** 6) * (1 + (hz / high_hz) ** 6))
    parts = rng.standard_normal((2, len(hz)), dtype=np.float32) * shape
    wave_S = np.fft.irfft(parts[0] + 1j * parts[1], samples).astype(np.float32)
    return wave_S / np.std(wave_S)


def carried_noise(rng: np.random.Generator, hz_S: Array, width_hz: float) -> Array:
    """Noise of a narrow band about a frequency that moves: slow noise on a carrier."""
    turn = 2 * np.pi * cycles_of(hz_S)
    slow = [noise(rng, len(hz_S), 0.5, width_hz) for _ in range(2)]
    carried_S: Array = slow[0] * np.cos(turn) + slow[1] * np.sin(turn)
    return carried_S
