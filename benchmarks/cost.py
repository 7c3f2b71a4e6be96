"""What does a pretraining run cost in core hours and gigabytes? A model made of measurements,
nothing else.

    python benchmarks/cost.py       # reads results/decode.json and kmeans-cpu.json; seconds

Of preset `small`: 10 rounds of at most 5 epochs, 256 clusters, 20 Lloyd iterations, one segment of
10 s a video.

    clips    = rows x rounds x (epochs + 1)            the one is the extraction of features
    decoding = clips x milliseconds a clip             `long + sound` and `packed + sound` of
                                                       decode.json
    packing  = rows x CPU seconds a segment            once
    k-means  = rows x rounds x iterations x 2 spaces x seconds a row
               (measured at 100,000 rows; linear in rows)
    disk     = rows x bytes a packed segment

Cores that a GPU needs are clips/s of its training step x milliseconds a clip: the step is for a GPU
to measure.
"""

from __future__ import annotations

import json

from common import RESULTS, save

VIDEOS = (10_000, 1_000_000, 65_000_000)
ROUNDS, EPOCHS, CLUSTERS, ITERATIONS, SPACES = 10, 5, 256, 20, 2
NO_PACKING = "Packing was not measured: benchmarks/decode.py does."
GPU_CLIPS_PER_SECOND = (100, 300, 1000)  # of a training step; what yours does, it must measure


def main() -> None:
    decode = json.loads((RESULTS / "decode.json").read_text(encoding="utf-8"))
    kmeans = json.loads((RESULTS / "kmeans-cpu.json").read_text(encoding="utf-8"))["results"]
    clip_ms = {row["set"]: row["ours_ms"] for row in decode["rows"]}
    plain_ms, packed_ms = clip_ms["long + sound"], clip_ms["packed + sound"]
    known = [
        p
        for p in decode.get("packing", [])
        if (p["short_side_pixels"], p["frame_rate_hz"]) == (128, 15.0)
    ]
    packing = known[0] if known else None
    fastest = min(
        (r for r in kmeans if r["clusters"] == CLUSTERS and r["name"].startswith("seehear")),
        key=lambda r: r["s_per_iteration"],
    )
    row_s = fastest["s_per_iteration"] / fastest["rows"]
    lines = [
        "# What a run of preset small costs, by the model of benchmarks/cost.py",
        "",
        f"A clip with sound: {plain_ms} ms of a core as it is, {packed_ms} ms packed. k-means "
        f"({fastest['name']}, one "
        f"core): {row_s * 1e6:.2f} us a row and iteration at K = {CLUSTERS}. "
        + (
            f"Packing: {packing['cpu_seconds']} s, {packing['bytes'] / 1000:.0f} kB a segment."
            if packing
            else NO_PACKING
        ),
        "",
        "| videos | clips read | decoding, core h | decoding packed | k-means | packing once | GB "
        "packed |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for rows in VIDEOS:
        clips = rows * ROUNDS * (EPOCHS + 1)
        hours = [clips * plain_ms / 3.6e6, clips * packed_ms / 3.6e6]
        hours.append(rows * ROUNDS * ITERATIONS * SPACES * row_s / 3600)
        once = ["not measured"] * 2
        if packing:
            once = [
                f"{rows * packing['cpu_seconds'] / 3600:,.1f}",
                f"{rows * packing['bytes'] / 1e9:,.1f}",
            ]
        cells = [f"{rows:,}", f"{clips:,}", *(f"{value:,.1f}" for value in hours), *once]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| clips/s of a GPU's step | cores that feed it as it is | packed |",
        "|---:|---:|---:|",
    ]
    for rate in GPU_CLIPS_PER_SECOND:
        lines.append(f"| {rate} | {rate * plain_ms / 1000:.1f} | {rate * packed_ms / 1000:.1f} |")
    lines += [
        "",
        f"Clips a second and core: {1000 / plain_ms:.0f} as it is, {1000 / packed_ms:.0f} packed.",
    ]
    print(save("cost", None, lines), end="")


if __name__ == "__main__":
    main()
