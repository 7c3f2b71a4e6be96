"""Does k-means stay within the memory it states, on features larger than that?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SRC = Path(__file__).parent.parent / "src"

# The anonymous memory of a process (what is not a file's pages) is watched while k-means runs, after one small search
# has loaded the kernels; printed in MB above what it was.
WATCH = """
import sys, threading, time
import numpy as np
from seehear.kmeans import kmeans

def anonymous_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1000 for line in status if line.startswith("RssAnon"))

path, precision, clusters = sys.argv[1], sys.argv[2], int(sys.argv[3])
features = np.load(path, mmap_mode="r")
kmeans(np.array(features[:3000]), 20, seed=0, iterations=1, precision=precision)
before, peak, stop = anonymous_mb(), [0.0], threading.Event()

def watch():
    while not stop.is_set():
        peak[0] = max(peak[0], anonymous_mb())
        time.sleep(0.002)

watcher = threading.Thread(target=watch)
watcher.start()
result = kmeans(features, clusters, seed=0, iterations=2, precision=precision)
stop.set()
watcher.join()
assert int(result.sizes.sum()) == len(features)
print(peak[0] - before)
"""


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("precision", "rows", "width", "clusters", "stated_mb"),
    [
        # 131 MB of float16 on disk, 262 MB as float32. Chunk 17 MB, again while sums or distances are taken, scores 8,
        # five (K, D) float64 arrays of 0.5, labels 1; int8 codes 66 with chunk 16 + 16
        pytest.param("fp32", 256_000, 256, 256, 110, marks=pytest.mark.slow),
        ("int8", 256_000, 256, 256, 150),
    ],
)
def test_growth_is_a_chunk_and_the_codes(
    tmp_path: Path, precision: str, rows: int, width: int, clusters: int, stated_mb: float
) -> None:
    path = tmp_path / "features.npy"
    features = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, width))
    random = np.random.default_rng(0)
    tile = random.standard_normal((8000, width), dtype=np.float32).astype(np.float16)
    for start in range(0, rows, 8000):
        features[start : start + 8000] = tile
    features.flush()
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(path), precision, str(clusters)],
        env={**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grown_mb = float(done.stdout)
    print(f"{precision}: {grown_mb:.0f} MB above the features")
    assert grown_mb < stated_mb < rows * width * 4 / 1e6
