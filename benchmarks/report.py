"""How long does a report take, how much memory, and how large is it, for 100,000 and for 1,000,000
rows?

    python benchmarks/report.py            # writes benchmarks/results/report.json and report.md
    python benchmarks/report.py --rows 100000

The runs are simulated: planted features and labels, and an index whose rows lie in a few video
files that are made here (320 x 240, 20 s each). Each size runs in a process of its own, so that its
peak of memory is its own. Where Chromium and Selenium are there, the map is timed too: how long it
takes to draw, and to find and show the dot below a pointer.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import save

FRAME_RATE_HZ, SOUND_RATE_HZ, SECONDS = 15, 16000, 20
CHUNK_ROWS = 50_000
WIDTH = 512  # of features, as the full-size encoders give


def main() -> None:
    """Measure each size, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--clusters", type=int, default=256)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    from seehear.machine.files import now, versions

    sizes = []
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            simulate(Path(folder), rows=rows, clusters=arguments.clusters)
            command = [sys.executable, __file__, "--one", folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            sizes.append(
                {
                    "rows": rows,
                    "clusters": arguments.clusters,
                    **found,
                    **measure_page(Path(folder)),
                }
            )
            print(json.dumps(sizes[-1]), file=sys.stderr)
    result = {"sizes": sizes, "created": now(), "load": os.getloadavg(), **versions()}
    save("report", result, as_page(result))


def simulate(
    folder: Path,
    *,
    rows: int,
    clusters: int,
    width: int = WIDTH,
    files: int = 8,
    seconds: int = SECONDS,
) -> Path:
    """Write videos, an index of so many rows of them, and a finished run with planted clusters;
    returns the run.
    """
    import torch

    from seehear.config import override
    from seehear.data.index import Index
    from seehear.presets import preset_settings
    from seehear.runs.checkpoint import write_clusters
    from seehear.runs.folder import Run

    index = Index.open(simulated_index(folder, rows, files, seconds))
    generator = np.random.default_rng(0)
    video_N = generator.integers(0, clusters, rows).astype(np.int32)
    strays_N = generator.random(rows) < 0.25
    audio_N = np.where(
        strays_N, generator.integers(0, clusters, rows), (video_N * 7 + 3) % clusters
    ).astype(np.int32)
    cfg = override(preset_settings("debug"), {"rounds": 3, "cluster.num_clusters": clusters})
    place = {"path": str(index.folder), "digest": index.digest, "rows": rows}
    run = Run.create(folder / "run", {"settings": cfg.to_dict(), "index": place})
    (run.path / "features").mkdir()
    centroids = {
        name: planted(run.path / "features" / f"{name}.npy", labels_N, clusters, width, generator)
        for name, labels_N in (("video", video_N), ("audio", audio_N))
    }
    joined = np.concatenate(
        [centroids["video"], centroids["audio"][(np.arange(clusters) * 7 + 3) % clusters]], axis=1
    )
    centroids["joint"] = joined / np.sqrt(2)
    labels = {"video": video_N, "audio": audio_N, "joint": video_N}
    state = {}
    for name, labels_N in labels.items():
        state[name] = {
            "labels": torch.from_numpy(labels_N),
            "centroids": torch.from_numpy(centroids[name].astype(np.float32)),
            "sizes": torch.from_numpy(np.bincount(labels_N, minlength=clusters)),
            **{
                f"space.{i}.unit_length": torch.tensor(True)
                for i in range(2 if name == "joint" else 1)
            },
        }
    (run.path / "clusters").mkdir()
    write_clusters(run.path / "clusters", state)
    for number in range(3):
        run.round_path(number).mkdir(parents=True)
        write_clusters(run.round_path(number), {name: state[name] for name in ("video", "audio")})
        run.log(simulated_round(number, rows, clusters))
    return run.path


def planted(
    path: Path, labels_N: np.ndarray, clusters: int, width: int, generator: np.random.Generator
) -> np.ndarray:
    """Write features (N, D) float16 around centroids of unit length; returns the centroids (K,
    D).
    """
    centroids_KD = generator.normal(size=(clusters, width)).astype(np.float32)
    centroids_KD /= np.linalg.norm(centroids_KD, axis=1, keepdims=True)
    array = np.lib.format.open_memmap(path, "w+", np.float16, (len(labels_N), width))
    for begin in range(0, len(labels_N), CHUNK_ROWS):
        chunk_N = labels_N[begin : begin + CHUNK_ROWS]
        noise = generator.standard_normal((len(chunk_N), width), np.float32) * (
            0.6 / np.sqrt(width)
        )
        array[begin : begin + CHUNK_ROWS] = centroids_KD[chunk_N] + noise
    array.flush()
    return centroids_KD


def simulated_index(folder: Path, rows: int, files: int, seconds: int) -> Path:
    """An index with so many rows, 2 s each, that overlap in a few real files."""
    from seehear.data.index.columns import Video
    from seehear.data.index.writing import write_index
    from seehear.data.media import probe

    (folder / "videos").mkdir(parents=True)
    videos = []
    for number in range(files):
        path = folder / "videos" / f"{number}.mp4"
        write_video(path, number, seconds)
        info, status = probe(path), path.stat()
        facts = {
            name: getattr(info, name)
            for name in [
                "fps",
                "width",
                "height",
                "rotation_degrees",
                "sample_rate_hz",
                "channels",
                "video_codec",
                "audio_codec",
                "audio_track",
                "audio_channel",
                "parts",
            ]
        }
        facts |= {"file_bytes": status.st_size, "modified_ns": status.st_mtime_ns}
        count = rows // files + (number < rows % files)
        start_s = np.linspace(0, seconds - 3, count).round(6)
        videos.append(Video(str(path), facts, start_s, np.full(count, 2.0)))
    info = {
        "root": str(folder / "videos"),
        "paths": [str(folder / "videos")],
        "settings": {"segment_seconds": seconds, "min_seconds": 0.0},
        "rejected": {},
    }
    write_index(folder / "index", videos, [], info)
    return folder / "index"


def write_video(path: Path, number: int, seconds: int) -> None:
    """Drifting stripes with a little noise, and of tones."""
    from fractions import Fraction

    import av

    generator = np.random.default_rng(number)
    y, x = np.mgrid[0:240, 0:320] / 40.0
    with av.open(str(path), "w") as container:
        video = container.add_stream(
            "libx264", rate=FRAME_RATE_HZ, options={"preset": "veryfast", "g": "60"}
        )
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        audio = container.add_stream(
            "aac", rate=SOUND_RATE_HZ, layout="mono", options={"aac_coder": "fast"}
        )
        colours = generator.random((3, 2)) * 6
        for i in range(seconds * FRAME_RATE_HZ):
            phase = x * colours[:, :1, None] + y * colours[:, 1:, None] + i / (3 + number)
            noise = generator.normal(0, 6, (3, 240, 320))
            image = (
                (128 + 90 * np.sin(phase) + noise).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
            )
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FRAME_RATE_HZ)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        t_s = np.arange(seconds * SOUND_RATE_HZ) / SOUND_RATE_HZ
        tone = 0.3 * np.sin(2 * np.pi * (200 + 90 * number) * t_s * (1 + 0.1 * np.sin(t_s)))
        samples = (tone + 0.02 * generator.normal(size=len(t_s))).astype(np.float32)[None]
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = SOUND_RATE_HZ, 0, Fraction(1, SOUND_RATE_HZ)
        container.mux(audio.encode(sound))
        container.mux(audio.encode())


def simulated_round(number: int, rows: int, clusters: int) -> dict[str, Any]:
    """A line of the log of a healthy round."""
    of = {
        "num_clusters": clusters,
        "largest": round(1.2 * rows / clusters),
        "smallest": round(0.8 * rows / clusters),
        "effective": 0.99 * clusters,
        "reseeded": 0,
        "inertia": 1.0,
        "nmi_last": 0.6 + 0.1 * number if number else None,
        "centred": False,
    }
    falling = [float(np.log(clusters)) * share * 0.8**number for share in (0.9, 0.7)]
    rising = [0.2 + 0.1 * number, 0.4 + 0.1 * number]
    return {
        "round": number,
        "epochs": 2,
        "steps": 100,
        "clips": rows,
        "loss": {"video": falling, "audio": falling},
        "accuracy": {"video": rising, "audio": rising},
        "heldout_loss": {"video": falling, "audio": falling},
        "heldout_accuracy": {"video": rising, "audio": rising},
        "heldout_videos": 200,
        "guessing": {"video": 1.2 / clusters, "audio": 1.2 / clusters},
        "clusters": {"video": of, "audio": of},
        "nmi_video_audio": 0.5 + 0.1 * number,
        "between_recordings": {"video": 0.1, "audio": 0.1, "chance": 0.1},
        "unreadable": {},
        "rows": rows,
        "timing": {"clips_per_second": 800.0, "waiting_share": 0.02, "seconds": 100.0},
    }


def measure(folder: Path) -> dict[str, Any]:
    """Build the report of a simulated run twice: everything anew, then with the previews that are
    there.
    """
    import seehear

    took = []
    for _ in range(2):
        begin = time.perf_counter()
        built = seehear.report(folder / "run")
        took.append(round(time.perf_counter() - begin, 1))
    report = folder / "run" / "report"
    files = [path for path in report.rglob("*") if path.is_file()]
    kinds = {"previews": "previews", "data": "data"}
    sizes = {
        k: sum(p.stat().st_size for p in files if p.relative_to(report).parts[0] == name)
        for k, name in kinds.items()
    }
    return {
        "seconds": took[0],
        "seconds_again": took[1],
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
        "previews": built.previews,
        "previews_mb": round(sizes["previews"] / 1e6, 1),
        "data_mb": round(sizes["data"] / 1e6, 1),
        "total_mb": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        "files": len(files),
    }


TIMED_MAP = """
const done = arguments[0];
const canvas = document.querySelector("canvas.map");
const begin = performance.now();
dispatchEvent(new Event("resize"));  // draws every dot
canvas.getContext("2d").getImageData(0, 0, 1, 1);  // waits until it is drawn
const drawn = performance.now() - begin;
const box = canvas.getBoundingClientRect();
const times = [];
for (let i = 0; i < 400; i++) {
  const clientX = box.left + (i * 97) % box.width, clientY = box.top + (i * 61) % box.height;
  const at = { clientX, clientY, bubbles: true };
  const start = performance.now();
  canvas.dispatchEvent(new PointerEvent("pointermove", at));
  times.push(performance.now() - start);
}
times.sort((a, b) => a - b);
done([drawn, times[200], times[395]]);
"""


def measure_page(folder: Path) -> dict[str, Any]:
    """How long the map takes in a headless Chromium: to draw, and for a move of the pointer."""
    try:
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.support.ui import WebDriverWait
    except ImportError:
        return {}
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))
    from browser import open_browser

    try:
        driver = open_browser(folder / "profile", 1440, 900)
    except WebDriverException:
        return {}
    try:
        begin = time.perf_counter()
        driver.get((folder / "run" / "report" / "index.html").as_uri() + "#map")
        found = "return document.querySelectorAll('.key-button').length > 0"
        WebDriverWait(driver, 60).until(lambda d: d.execute_script(found))
        opened = time.perf_counter() - begin
        drawn, median, slow = driver.execute_async_script(TIMED_MAP)
    finally:
        driver.quit()
    return {
        "map_opens_s": round(opened, 2),
        "map_draws_ms": round(drawn, 1),
        "map_move_median_ms": round(median, 2),
        "map_move_99_ms": round(slow, 2),
    }


def as_page(result: dict[str, Any]) -> str:
    """The result as a table."""
    columns = [
        ("rows", "{rows:,}"),
        ("build", "{seconds:g} s"),
        ("build again", "{seconds_again:g} s"),
        ("peak memory", "{peak_memory_gb:g} GB"),
        ("previews", "{previews:,}, {previews_mb:g} MB"),
        ("report", "{total_mb:g} MB in {files:,} files"),
        ("map opens", "{map_opens_s} s"),
        ("map draws", "{map_draws_ms} ms"),
        ("pointer moves (median, 99 %)", "{map_move_median_ms} ms, {map_move_99_ms} ms"),
    ]
    lines = [f"| {' | '.join(head for head, _ in columns)} |", "|" + "---|" * len(columns)]
    blank = dict.fromkeys(
        ("map_opens_s", "map_draws_ms", "map_move_median_ms", "map_move_99_ms"), "-"
    )
    lines += [
        f"| {' | '.join(form.format(**(blank | size)) for _, form in columns)} |"
        for size in result["sizes"]
    ]
    machine = result["machine"]
    return (
        "# The report of a large run\n\n"
        + "\n".join(lines)
        + f"\n\nSimulated runs of {result['sizes'][0]['clusters']} clusters a space and features "
        f"{WIDTH} wide, 2,000 "
        f'previews of 2 s out of 320 x 240 files, by `python benchmarks/report.py`; "again" finds '
        f"its previews "
        f"cut. {machine['processor']}, {machine['cores']} cores, load {result['load'][0]:.1f} at "
        f"the end; Python "
        f"{result['python']}, NumPy {result['packages']['numpy']}, commit "
        f"{str(result['commit'])[:12]}, "
        f"{result['created'][:10]}.\n"
    )


if __name__ == "__main__":
    main()
