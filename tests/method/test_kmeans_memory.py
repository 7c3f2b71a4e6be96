"""Does k-means stay within the memory it states, on features larger than that?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SRC = Path(__file__).parents[2] / "src"

# The anonymous memory of a process (what is not a file's pages) is watched while k-means runs,
# after one small search
# has loaded the kernels; printed in MB above what it was.
WATCH = """
import sys, threading, time
import numpy as np
from seehear.method.kmeans import kmeans

def anonymous_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1000 for line in status if line.startswith("RssAnon"))

path, clusters = sys.argv[1], int(sys.argv[2])
features = np.load(path, mmap_mode="r")
kmeans(np.array(features[:3000]), 20, seed=0, iterations=1)
before, peak, stop = anonymous_mb(), [0.0], threading.Event()

def watch():
    while not stop.is_set():
        peak[0] = max(peak[0], anonymous_mb())
        time.sleep(0.002)

watcher = threading.Thread(target=watch)
watcher.start()
result = kmeans(features, clusters, seed=0, iterations=2)
stop.set()
watcher.join()
assert int(result.sizes.sum()) == len(features)
print(peak[0] - before)
"""


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_growth_is_a_chunk(tmp_path: Path) -> None:
    # 131 MB of float16 on disk, 262 MB as float32. Stated: a chunk of 17 MB, again while sums or
    # distances are taken, scores 4, five (K, D) float64 arrays of 0.5, labels 1; the rest is the
    # allocator's.
    rows, width, clusters, stated_mb = 256_000, 256, 256, 110
    path = tmp_path / "features.npy"
    features = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, width))
    random = np.random.default_rng(0)
    tile = random.standard_normal((8000, width), dtype=np.float32).astype(np.float16)
    for start in range(0, rows, 8000):
        features[start : start + 8000] = tile
    features.flush()
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(path), str(clusters)],
        env={**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grown_mb = float(done.stdout)
    print(f"{grown_mb:.0f} MB above the features")
    assert grown_mb < stated_mb < rows * width * 4 / 1e6
