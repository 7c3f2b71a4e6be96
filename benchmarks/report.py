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
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    HELPERS,
    arguments,
    fact_lines,
    facts,
    in_a_process,
    note,
    save,
    table,
    write_video,
)

FRAME_RATE_HZ, SOUND_RATE_HZ, SECONDS = 15, 16000, 20
CHUNK_ROWS = 50_000
WIDTH = 512  # of features, as the full-size encoders give
COLUMNS = {
    "rows": "{rows:,}",
    "build": "{seconds:g} s",
    "build again": "{seconds_again:g} s",
    "peak memory": "{peak_memory_gb:g} GB",
    "previews": "{previews:,}, {previews_mb:g} MB",
    "report": "{total_mb:g} MB in {files:,} files",
    "map opens": "{map_opens_s} s",
    "map draws": "{map_draws_ms} ms",
    "pointer moves (median, 99 %)": "{map_move_median_ms} ms, {map_move_99_ms} ms",
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--clusters", type=int, default=256)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    sizes = []
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            simulate(Path(folder), rows=rows, clusters=args.clusters)
            size = {"rows": rows, **in_a_process(__file__, "--one", folder)}
            sizes.append(size | measure_page(Path(folder)))
            note(sizes[-1])
    about = facts(clusters=args.clusters, width=WIDTH)
    cells = [[form.format_map(Blank(size)) for form in COLUMNS.values()] for size in sizes]
    page = [
        "# The report of a large run",
        "",
        *table(" | ".join(COLUMNS), cells, left=len(COLUMNS)),
        "",
        f"Simulated runs of {args.clusters} clusters a space and features {WIDTH} wide, 2,000 "
        'previews of 2 s out of 320 x 240 files; "again" finds its previews cut.',
        "",
        *fact_lines(about),
    ]
    save("report", {"sizes": sizes, **about}, page)


class Blank(dict[str, Any]):
    """What was not measured is a dash."""

    def __missing__(self, key: str) -> str:
        return "-"


def simulate(
    folder: Path,
    *,
    rows: int,
    clusters: int,
    width: int = WIDTH,
    files: int = 8,
    seconds: int = SECONDS,
) -> Path:
    """Write videos, an index of their rows, and a finished run with planted clusters: its path."""
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
    drawn_N = generator.integers(0, clusters, rows)
    audio_N = np.where(strays_N, drawn_N, (video_N * 7 + 3) % clusters).astype(np.int32)
    cfg = override(preset_settings("debug"), {"rounds": 3, "cluster.num_clusters": clusters})
    place = {"path": str(index.folder), "digest": index.digest, "rows": rows}
    run = Run.create(folder / "run", {"settings": cfg.to_dict(), "index": place})
    (run.path / "features").mkdir()
    labels = {"video": video_N, "audio": audio_N}
    centroids = {
        name: planted(run.path / "features" / f"{name}.npy", labels_N, clusters, width, generator)
        for name, labels_N in labels.items()
    }
    partners = centroids["audio"][(np.arange(clusters) * 7 + 3) % clusters]
    centroids["joint"] = np.concatenate([centroids["video"], partners], axis=1) / np.sqrt(2)
    state = {}
    for name, labels_N in (labels | {"joint": video_N}).items():
        state[name] = {
            "labels": torch.from_numpy(labels_N),
            "centroids": torch.from_numpy(centroids[name].astype(np.float32)),
            "sizes": torch.from_numpy(np.bincount(labels_N, minlength=clusters)),
        }
        for part in range(2 if name == "joint" else 1):
            state[name][f"space.{part}.unit_length"] = torch.tensor(True)
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
    """Write features (N, D) float16 around centroids (K, D) of unit length, which it returns."""
    centroids_KD = generator.normal(size=(clusters, width)).astype(np.float32)
    centroids_KD /= np.linalg.norm(centroids_KD, axis=1, keepdims=True)
    array = np.lib.format.open_memmap(path, "w+", np.float16, (len(labels_N), width))
    for begin in range(0, len(labels_N), CHUNK_ROWS):
        chunk_N = labels_N[begin : begin + CHUNK_ROWS]
        noise = generator.standard_normal((len(chunk_N), width), np.float32)
        array[begin : begin + CHUNK_ROWS] = centroids_KD[chunk_N] + noise * (0.6 / np.sqrt(width))
    array.flush()
    return centroids_KD


def simulated_index(folder: Path, rows: int, files: int, seconds: int) -> Path:
    """An index with so many rows, 2 s each, that overlap in a few real files."""
    from seehear.data.index.columns import Video
    from seehear.data.index.writing import write_index
    from seehear.data.media import probe, stamp

    (folder / "videos").mkdir(parents=True)
    videos = []
    for number in range(files):
        path = folder / "videos" / f"{number}.mp4"
        sound_CL, options = tone(number, seconds), {"preset": "veryfast", "g": "60"}
        write_video(
            path, stripes(number, seconds), FRAME_RATE_HZ, sound_CL, SOUND_RATE_HZ, **options
        )
        count = rows // files + (number < rows % files)
        start_s = np.linspace(0, seconds - 3, count).round(6)
        videos.append(Video.of(str(path), probe(path), start_s, np.full(count, 2.0), stamp(path)))
    info = {
        "root": str(folder / "videos"),
        "paths": [str(folder / "videos")],
        "settings": {"segment_seconds": seconds, "min_seconds": 0.0},
        "rejected": {},
    }
    write_index(folder / "index", videos, [], info)
    return folder / "index"


def stripes(number: int, seconds: int) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) of drifting stripes with a little noise."""
    generator = np.random.default_rng(number)
    y, x = np.mgrid[0:240, 0:320] / 40.0
    colours = generator.random((3, 2)) * 6
    for i in range(seconds * FRAME_RATE_HZ):
        phase = x * colours[:, :1, None] + y * colours[:, 1:, None] + i / (3 + number)
        image = 128 + 90 * np.sin(phase) + generator.normal(0, 6, (3, 240, 320))
        yield image.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def tone(number: int, seconds: int) -> np.ndarray:
    """A wavering tone (1, L)."""
    t_s = np.arange(seconds * SOUND_RATE_HZ) / SOUND_RATE_HZ
    wave = 0.3 * np.sin(2 * np.pi * (200 + 90 * number) * t_s * (1 + 0.1 * np.sin(t_s)))
    return (wave + 0.02 * np.random.default_rng(number).normal(size=len(t_s)))[None]


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
        "heldout_recordings": 200,
        "guessing": {"video": 1.2 / clusters, "audio": 1.2 / clusters},
        "clusters": {"video": of, "audio": of},
        "ami_video_audio": 0.5 + 0.1 * number,
        "between_recordings": {"video": 0.1, "audio": 0.1, "chance": 0.1},
        "rankme": {"video": 12.0, "audio": 15.0},
        "unreadable": {},
        "rows": rows,
        "timing": {"clips_per_second": 800.0, "waiting_share": 0.02, "seconds": 100.0},
    }


def measure(folder: Path) -> dict[str, Any]:
    """Build the report of a simulated run twice: anew, then with the previews that are there."""
    import seehear

    took = []
    for _ in range(2):
        begin = time.perf_counter()
        built = seehear.report(folder / "run")
        took.append(round(time.perf_counter() - begin, 1))
    report = folder / "run" / "report"
    files = [path for path in report.rglob("*") if path.is_file()]

    def megabytes(folder: str) -> float:
        return round(sum(p.stat().st_size for p in files if report / folder in p.parents) / 1e6, 1)

    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": took[0],
        "seconds_again": took[1],
        "peak_memory_gb": round(peak_bytes / 1e9, 2),
        "previews": built.previews,
        "previews_mb": megabytes("previews"),
        "data_mb": megabytes("data"),
        "total_mb": megabytes(""),
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
    sys.path.insert(0, str(HELPERS))
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


if __name__ == "__main__":
    main()
