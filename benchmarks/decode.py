"""How much of a core does one clip cost, and how much does it cost with what people would use
instead?

    python benchmarks/decode.py                     # about 5 minutes of one core
    python benchmarks/decode.py --clips 12 --sets packed,long

Sets, made here with x264 from moving scenes with grain, 10 s each at 30 frames/s, with AAC stereo
at 44.1 kHz:

    long     340x256, a key frame every 250 frames: Kinetics as it is usually distributed
    gop30    340x256, a key frame every 30
    packed   the files of `long` after `seehear pack --preset small`: 15 frames/s, as that preset
             reads them
    hd       1280x720, a key frame every 250

A clip is 8 frames, 4 apart, opened anew, scaled to a short side of 128, as uint8 RGB; with sound, 2
s of mono at 16 kHz go with it. All decoders get the same drawn clips in turn, in a turning order,
one thread each; the clock is the CPU time of the process. `packed` is read from its shard by ours,
and from the same bytes as a file of its own by others.

Frames are checked once for each decoder and set: decoded without scaling, they must be within 3
levels, on average, of the frame that FFmpeg shows at that time when it decodes the whole file.
Torchcodec needs FFmpeg's shared libraries on the system; what cannot be imported is left out and
named.

After that: how much faster packed clips are than the same ones unpacked, read in turn, since the
machine's speed drifts from set to set; what packing a segment costs, and what the loader adds to
reading a clip.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from common import arguments, fact_lines, facts, note, save, table, write_video

import seehear
from seehear.data import media
from seehear.data.media.members import member_of

SETS = {
    "long": (340, 256, 250),
    "gop30": (340, 256, 30),
    "packed": (340, 256, 250),
    "hd": (1280, 720, 250),
}
DECODERS = ("ours", "torchcodec", "decord", "opencv")
PACKAGES = ("torchcodec", "decord2", "decord", "opencv-python-headless")
FILES, SECONDS, FPS = 3, 10, 30
SIDE, FRAMES, APART, RATE_HZ, SOUND_S = 128, 8, 4, 16000, 2.0
Clip = Callable[[str, np.ndarray, float | None, int | None], tuple[np.ndarray, np.ndarray | None]]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--clips", type=int, default=40, help="clips a set, decoder and kind")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--cache", type=Path, help="keep the videos in this folder")
    args = parser.parse_args()
    decoders, absent = find_decoders()
    print(f"decoders: {', '.join(decoders)}; not here: {absent or 'none'}", file=sys.stderr)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = args.cache or Path(place)
        for name in args.sets.split(","):
            files = make_set(folder, name)
            wrong = {d: check(decode, files) for d, decode in decoders.items()}
            for sound in (False, True):
                row = measure(name, files, decoders, args.clips, sound)
                rows.append(row | {"frames_off": wrong})
                note(rows[-1])
        extra = {
            "gain": packing_gains(folder, args.clips),
            "packing": packing_costs(folder),
            "loader": loader_costs(folder, args.clips),
        }
    about = facts(*PACKAGES, clips=args.clips, threads=1, clock="CPU time", not_run=absent)
    save("decode", {**about, "rows": rows, **extra}, as_page(about, rows, extra))


def packing_gains(folder: Path, count: int) -> list[dict[str, Any]]:
    """How many times as long as packed the same clips take unpacked, in turn, sound included."""
    packed, found = draw(make_set(folder, "packed"), count + 2), []
    for name in ("long", "gop30"):
        spent = []
        for clips in zip(draw(make_set(folder, name), count + 2), packed, strict=True):
            times = [time.process_time()]
            for path, times_s, sound_s in clips:
                ours(path, times_s, sound_s, SIDE)
                times.append(time.process_time())
            spent.append(np.diff(times))
        plain_s, packed_s = np.array(spent[2:]).T
        row: dict[str, Any] = {"set": name}
        row["unpacked_ms"] = round(float(plain_s.mean()) * 1e3, 2)
        row["packed_ms"] = round(float(packed_s.mean()) * 1e3, 2)
        row["times_as_fast"] = round(float(plain_s.sum() / packed_s.sum()), 2)
        row["times_as_fast_median"] = round(float(np.median(plain_s / packed_s)), 2)
        found.append(row)
        note(row)
    return found


def packing_costs(folder: Path) -> list[dict[str, Any]]:
    """CPU seconds and bytes of a packed segment of 10 s, by what it is packed for; the originals
    are of `long`.
    """
    from seehear.data.packing.encoding import Recipe, encode

    found = []
    for side, rate_hz in ((128, 15.0), (128, 30.0), (256, 30.0)):
        recipe, seconds, sizes_bytes = Recipe(side, rate_hz, RATE_HZ, 20), [], []
        for path in make_set(folder, "long"):
            with tempfile.TemporaryDirectory() as place:
                begin = time.process_time()
                record = encode(path, 0.0, float(SECONDS), (340, 256), recipe, place, "k", "{}")
                seconds.append(time.process_time() - begin)
                assert isinstance(record, dict)
                sizes_bytes.append(record["bytes"])
        row = {"short_side_pixels": side, "frame_rate_hz": rate_hz}
        row["cpu_seconds"] = round(statistics.median(seconds), 3)
        row["bytes"] = round(statistics.mean(sizes_bytes))
        found.append(row)
        note(row)
    return found


def loader_costs(folder: Path, count: int) -> list[dict[str, Any]]:
    """CPU milliseconds a clip in batches, by this process alone and by a worker process and this
    one together, beside reading the same clips and nothing else.
    """
    from seehear.config import Data
    from seehear.data.clips import Clips
    from seehear.machine.devices import keep_memory
    from seehear.presets import preset_settings

    keep_memory()  # as whatever trains does
    clip = preset_settings("small").clip
    found = []
    for name, at in (("long", folder / "index"), ("packed", folder / "packed")):
        if not at.exists():
            continue
        index = seehear.Index.open(at)
        rows = np.arange(count) % len(index)
        alone, worker = (Clips(index, clip, Data(workers=w, cache_gigabytes=0), 0) for w in (0, 1))
        spent: dict[str, list[float]] = {"bare": [], "alone": [], "worker": []}
        for epoch in range(11):  # in turn; the first pass starts the worker
            wanted = [alone.request(row, epoch) for row in rows.tolist()]
            times = [cpu_seconds()]
            for one in wanted:
                assert one.times_s is not None
                assert one.sound_s is not None
                media.read_clip(one.path, one.times_s, *one.sound_s, short_side_pixels=SIDE)
            times.append(cpu_seconds())
            for clips in (alone, worker):
                for _ in clips.batches(rows, epoch=epoch, batch_size=16):
                    pass
                times.append(cpu_seconds())
            if epoch:
                for way, begin, end in zip(spent, times, times[1:], strict=False):
                    spent[way].append((end - begin) / count * 1e3)
        worker.close()
        row: dict[str, Any] = {"set": name}
        row |= {f"{way}_ms": round(statistics.median(ms), 2) for way, ms in spent.items()}
        for way in ("alone", "worker"):
            ratios = np.array(spent[way]) / np.array(spent["bare"])
            row[f"{way}_ratio"] = round(float(statistics.median(ratios)), 3)
            row[f"{way}_range"] = [round(float(ratios.min()), 3), round(float(ratios.max()), 3)]
        found.append(row)
        note(row)
    return found


def cpu_seconds() -> float:
    """CPU time of this process and of the children that it has now."""
    while True:
        spent = time.process_time()
        try:
            for thread in Path("/proc/self/task").iterdir():
                for child in (thread / "children").read_text().split():
                    spent += int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9
        except FileNotFoundError:  # a thread has ended, and its children are another's now
            continue
        return spent


def scene(number: int, width: int, height: int) -> Iterator[np.ndarray]:
    """Frames of a textured background that moves, with a disc before it and fresh grain on all;
    uint8 (H, W, 3).
    """
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    scale = height / 256
    ground = 127 + 60 * np.sin(x / (37 * scale)) + 50 * np.cos(y / (23 * scale))
    ground = (ground + rng.normal(0, 12, (height, width))).astype(np.float32)
    grains = rng.normal(0, 3, (8, height, width)).astype(np.float32)
    for i in range(SECONDS * FPS):
        shift = int(2 * i * scale)
        frame = np.roll(ground, (shift // 4, shift), (0, 1))
        centre_x = (i * 5 * scale) % width
        centre_y = height / 2 + height / 4 * np.sin(i / 20 + number)
        disc = (x - centre_x) ** 2 + (y - centre_y) ** 2 < (height / 6) ** 2
        frame = np.where(disc, 220 - frame * 0.3, frame) + grains[i % 8]
        colours = np.stack([frame, frame * 0.8 + 20, 255 - frame * 0.7], axis=-1)
        yield colours.clip(0, 255).astype(np.uint8)


def write(path: Path, number: int, width: int, height: int, group: int) -> None:
    """One video with sound."""
    time_s = np.arange(SECONDS * 44100) / 44100
    noise = np.random.default_rng(number).normal(0, 0.05, len(time_s))
    tone = 0.3 * np.sin(2 * np.pi * (300 * time_s + 10 * time_s**2)) + noise
    options = {"preset": "fast", "crf": "23", "g": str(group), "threads": "1"}
    options["keyint_min"] = str(min(group, 30))
    write_video(path, scene(number, width, height), FPS, np.stack([tone, tone]), 44100, **options)


def make_set(folder: Path, name: str) -> list[str]:
    """The paths of a set, made where they are not there yet."""
    width, height, group = SETS[name]
    plain = "long" if name == "packed" else name
    (folder / plain).mkdir(parents=True, exist_ok=True)
    paths = [folder / plain / f"{number}.mp4" for number in range(FILES)]
    for number, path in enumerate(paths):
        if not path.exists():
            write(path, number, width, height, group)
    if name != "packed":
        return [str(path) for path in paths]
    seehear.index(paths, folder / "index", progress=False, workers=1)
    seehear.pack(folder / "index", folder / "packed", preset="small", workers=1)
    index = seehear.Index.open(folder / "packed")
    return [index.path(row) for row in range(len(index))]


def plain_file(path: str) -> str:
    """A file for those who cannot read a shard."""
    member = member_of(path)
    if member is None:
        return path
    target = Path(member.shard).parent / "extracted" / member.name
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        with open(member.shard, "rb") as file:  # noqa: PTH123
            file.seek(member.offset)
            target.write_bytes(file.read(member.size))
    return str(target)


def find_decoders() -> tuple[dict[str, Clip], dict[str, str]]:
    """Those that can be imported, and why others cannot."""
    found: dict[str, Clip] = {"ours": ours}
    absent: dict[str, str] = {}
    makers = with_torchcodec, with_decord, with_opencv
    for name, make in zip(DECODERS[1:], makers, strict=True):
        try:
            found[name] = make()
        except (ImportError, OSError, RuntimeError) as error:
            absent[name] = str(error).splitlines()[0]
    return found, absent


def ours(
    path: str, times_s: np.ndarray, sound_s: float | None, side: int | None
) -> tuple[np.ndarray, np.ndarray | None]:
    with media.Reader(path) as reader:
        frames_THWC = reader.frames(times_s.tolist(), short_side_pixels=side)
        if sound_s is None:
            return frames_THWC, None
        return frames_THWC, reader.sound(sound_s, SOUND_S, sample_rate_hz=RATE_HZ)


def with_torchcodec() -> Clip:
    import torch
    from torchcodec.decoders import AudioDecoder, VideoDecoder
    from torchcodec.transforms import Resize

    torch.set_num_threads(1)

    def decode(path, times_s, sound_s, side):  # type: ignore[no-untyped-def]
        path = plain_file(path)
        transforms = None if side is None else [Resize(size=scaled(sizes(path), side)[::-1])]
        decoder = VideoDecoder(
            path, num_ffmpeg_threads=1, dimension_order="NHWC", transforms=transforms
        )
        frames_THWC = decoder.get_frames_played_at(times_s.tolist()).data.numpy()
        if sound_s is None:
            return frames_THWC, None
        sounds = AudioDecoder(path, sample_rate=RATE_HZ, num_channels=1)
        samples = sounds.get_samples_played_in_range(sound_s, sound_s + SOUND_S)
        return frames_THWC, samples.data.numpy()[0]

    return decode


def with_decord() -> Clip:
    import decord

    def decode(path, times_s, sound_s, side):  # type: ignore[no-untyped-def]
        path = plain_file(path)
        width, height = scaled(sizes(path), side) if side else (-1, -1)
        reader = decord.VideoReader(path, num_threads=1, width=width, height=height)
        numbers = np.floor(times_s * reader.get_avg_fps() + 1e-3).astype(int)
        frames_THWC = reader.get_batch(numbers.clip(0, len(reader) - 1).tolist()).asnumpy()
        if sound_s is None:
            return frames_THWC, None
        sounds = decord.AudioReader(path, sample_rate=RATE_HZ, mono=True)
        first = round(sound_s * RATE_HZ)
        return frames_THWC, sounds[first : first + round(SOUND_S * RATE_HZ)].asnumpy()[0]

    return decode


def with_opencv() -> Clip:
    import cv2

    cv2.setNumThreads(1)

    def decode(path, times_s, sound_s, side):  # type: ignore[no-untyped-def]
        path = plain_file(path)
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        rate = capture.get(cv2.CAP_PROP_FPS)
        numbers = np.floor(times_s * rate + 1e-3).astype(int)
        capture.set(cv2.CAP_PROP_POS_FRAMES, numbers[0])
        size = scaled(sizes(path), side) if side else None
        frames = []
        for number in range(numbers[0], numbers[-1] + 1):
            if not capture.grab():
                break
            if number in numbers:
                frame = capture.retrieve()[1]
                frame = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) if size else frame
                frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        capture.release()
        # OpenCV has no sound: it is read with PyAV's plain decoding and resampling, as a user of
        # OpenCV would.
        return np.stack(frames), None if sound_s is None else plain_sound(path, sound_s)

    return decode


def plain_sound(path: str, start_s: float) -> np.ndarray:
    """Two seconds of sound, decoded from a seek on and resampled."""
    parts = []
    with av.open(path) as file:
        stream = file.streams.audio[0]
        assert stream.time_base is not None
        file.seek(int(start_s / stream.time_base), stream=stream)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
        for frame in file.decode(stream):
            if (frame.time or 0.0) > start_s + SOUND_S:
                break
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    return np.concatenate(parts)[: round(SOUND_S * RATE_HZ)]


_SIZES: dict[str, tuple[int, int]] = {}


def sizes(path: str) -> tuple[int, int]:
    """Width and height, known beforehand, as from an index."""
    if path not in _SIZES:
        info = media.probe(path)
        _SIZES[path] = info.width, info.height
    return _SIZES[path]


def scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height with that short side."""
    return round(size[0] * side / min(size)), round(size[1] * side / min(size))


def draw(files: list[str], count: int) -> list[tuple[str, np.ndarray, float]]:
    """Clips, the same for everybody: file, times in the middle of frames, start of the sound."""
    rng = np.random.default_rng(7)
    last = SECONDS * FPS - FRAMES * APART - 1
    starts = rng.integers(0, last, count)
    times = [(start + np.arange(FRAMES) * APART + 0.5) / FPS for start in starts]
    files_and_times = zip(itertools.cycle(files), times, strict=False)
    return [(file, t, min(float(t[0]), SECONDS - SOUND_S)) for file, t in files_and_times]


def check(decode: Clip, files: list[str]) -> int:
    """How many of the frames of some clips are not what is to be seen at their times."""
    off = 0
    for path, times_s, _ in draw(files, 4):
        found_THWC, _ = decode(path, times_s, None, None)
        with av.open(plain_file(path)) as file:
            every = [(f.time, f) for f in file.decode(video=0) if f.time <= times_s[-1]]
        for time_s, found in zip(times_s, found_THWC, strict=True):
            _, shown = max((f for f in every if f[0] <= time_s), key=lambda f: f[0])
            wanted = shown.to_ndarray(format="rgb24")
            off += int(np.abs(found.astype(np.int16) - wanted).mean() > 3)
    return off


def measure(
    name: str, files: list[str], decoders: dict[str, Clip], count: int, sound: bool
) -> dict[str, Any]:
    """Median CPU milliseconds a clip of each decoder, over the same clips, in turn."""
    spent: dict[str, list[float]] = {decoder: [] for decoder in decoders}
    order = list(decoders)
    for number, (path, times_s, sound_s) in enumerate(draw(files, count + 2)):
        for decoder in order[number % len(order) :] + order[: number % len(order)]:
            begin = time.process_time()
            decoders[decoder](path, times_s, sound_s if sound else None, SIDE)
            if number >= 2:  # the first ones import and allocate
                spent[decoder].append((time.process_time() - begin) * 1e3)
    row: dict[str, Any] = {"set": f"{name} + sound" if sound else name}
    for decoder in DECODERS:
        values = spent.get(decoder)
        row[f"{decoder}_ms"] = round(statistics.median(values), 2) if values else None
    # The machine's speed drifts, so ratios are those of the same clip at nearly the same moment.
    row["times_as_fast"] = {
        decoder: round(statistics.median(np.array(values) / np.array(spent["ours"])), 2)
        for decoder, values in spent.items()
        if decoder != "ours"
    }
    return row


def as_page(about: dict[str, Any], rows: list[dict[str, Any]], extra: dict[str, Any]) -> list[str]:
    """The results as Markdown."""
    read, packing, loader = [], [], []
    for row in rows:
        others = ((row[f"{other}_ms"], row["times_as_fast"].get(other)) for other in DECODERS[1:])
        cells = ["not run" if ms is None else f"{ms} ({times})" for ms, times in others]
        wrong = ", ".join(f"{k} {v}" for k, v in row["frames_off"].items() if v) or "none"
        read.append([row["set"], row["ours_ms"], *cells, wrong])
    for cost in extra["packing"]:
        what = f"{cost['short_side_pixels']} pixels, {cost['frame_rate_hz']:g} frames/s"
        packing.append([what, cost["cpu_seconds"], f"{cost['bytes'] / 1000:.0f}"])
    for cost in extra["loader"]:
        cells = [cost["set"], cost["bare_ms"]]
        for way in ("alone", "worker"):
            low, high = cost[f"{way}_range"]
            cells.append(f"{cost[f'{way}_ms']} ({cost[f'{way}_ratio']}, {low} to {high})")
        loader.append(cells)
    return [
        "# Decoding: CPU milliseconds a clip",
        "",
        *fact_lines(about),
        "- in brackets: times as long as ours on the same clip, median; `wrong`: frames of 32 that "
        "are not those to be seen",
        "",
        *table("set | ours | torchcodec | decord | opencv | wrong", read),
        "",
        "The same clips with sound, unpacked and packed in turn: means, and how many times as fast "
        "packed ones are, in all and by the median clip.",
        "",
        *table(
            "set | unpacked, ms | packed, ms | times as fast | median",
            [gain.values() for gain in extra["gain"]],
        ),
        "",
        *table("packed for | CPU s a segment of 10 s | kB", packing),
        "",
        "Through the loader, in batches of 16: by this process alone, and by a worker, with the "
        "CPU time of both; in brackets over reading alone, median (range) of 10 passes in turn.",
        "",
        *table("clips of preset small | reading alone, ms | no worker, ms | a worker, ms", loader),
    ]


if __name__ == "__main__":
    main()
