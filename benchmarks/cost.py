"""What does a pretraining run cost in core hours and gigabytes? A model made of measurements,
nothing else.

    python benchmarks/cost.py       # reads results/decode.json and kmeans-cpu.json; seconds

Of preset `small`: each encoder taught 10 times, at most 5 epochs, 256 clusters, 20 Lloyd
iterations, one segment of 10 s a video.

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

from common import RESULTS, save, table

VIDEOS = (10_000, 1_000_000, 65_000_000)
ROUNDS, EPOCHS, CLUSTERS, ITERATIONS, SPACES = 10, 5, 256, 20, 2
GPU_CLIPS_PER_SECOND = (100, 300, 1000)  # of a training step; what yours does, it must measure


def main() -> None:
    decode = json.loads((RESULTS / "decode.json").read_text(encoding="utf-8"))
    kmeans = json.loads((RESULTS / "kmeans-cpu.json").read_text(encoding="utf-8"))["results"]
    clip_ms = {row["set"]: row["ours_ms"] for row in decode["rows"]}
    plain_ms, packed_ms = clip_ms["long + sound"], clip_ms["packed + sound"]
    packing = next(
        one
        for one in decode["packing"]
        if (one["short_side_pixels"], one["frame_rate_hz"]) == (128, 15.0)
    )
    ours = next(r for r in kmeans if r["name"] == "seehear" and r["clusters"] == CLUSTERS)
    # a call goes over all rows once more, for their labels
    row_s = ours["s_whole"] / (ours["moves"] + 1) / ours["rows"]
    costs = []
    for rows in VIDEOS:
        clips = rows * ROUNDS * (EPOCHS + 1)
        decoding_h = [clips * ms / 3.6e6 for ms in (plain_ms, packed_ms)]
        kmeans_h = rows * ROUNDS * ITERATIONS * SPACES * row_s / 3600
        packing_h, gigabytes = rows * packing["cpu_seconds"] / 3600, rows * packing["bytes"] / 1e9
        values = *decoding_h, kmeans_h, packing_h, gigabytes
        costs.append([f"{rows:,}", f"{clips:,}", *(f"{value:,.1f}" for value in values)])
    feeding = [
        [rate, f"{rate * plain_ms / 1000:.1f}", f"{rate * packed_ms / 1000:.1f}"]
        for rate in GPU_CLIPS_PER_SECOND
    ]
    head = "videos | clips read | decoding, core h | decoding packed | k-means | packing once"
    lines = [
        "# What a run of preset small costs, by the model of benchmarks/cost.py",
        "",
        f"A clip with sound: {plain_ms} ms of a core as it is, {packed_ms} ms packed. k-means, one "
        f"core: {row_s * 1e6:.2f} us a row and iteration at K = {CLUSTERS}. Packing: "
        f"{packing['cpu_seconds']} s, {packing['bytes'] / 1000:.0f} kB a segment.",
        "",
        *table(f"{head} | GB packed", costs, left=0),
        "",
        *table("clips/s of a GPU's step | cores that feed it as it is | packed", feeding, left=0),
        "",
        f"Clips a second and core: {1000 / plain_ms:.0f} as it is, {1000 / packed_ms:.0f} packed.",
    ]
    save("cost", None, lines)


if __name__ == "__main__":
    main()
