"""Two nodes on one machine: network namespaces joined by a veth pair, and torchrun in each with a
common rendezvous.

`with nodes() as (first, second)` needs root and iproute2; `why_not()` says what is missing. Each
node has its own loopback and one address on one wire; gloo is told which interface to use. Files
are shared, as by a network. By hand:
`python tests/helpers/two_nodes.py INDEX RUN [more of pretrain's options]`, which trains on two
nodes of one rank.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PORT = 29400


@dataclass(frozen=True)
class Node:
    """A network namespace with one interface."""

    number: int
    name: str
    interface: str
    address: str

    def cut(self) -> None:
        """Take the wire away, from this end."""
        _ip("-n", self.name, "link", "set", self.interface, "down")

    def mend(self) -> None:
        """Put it back."""
        _ip("-n", self.name, "link", "set", self.interface, "up")

    def torchrun(
        self, meeting: str, words: Sequence[str], *, ranks: int = 1, log: Path
    ) -> subprocess.Popen[str]:
        """Start this node's part of a job of two nodes, in a process group of its own, with what it
        says in a file.

        Args:
            meeting: the address of the first node.
            words: what follows `-m`.
            ranks: processes on this node.
        """
        torchrun = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nnodes=2",
            f"--nproc-per-node={ranks}",
        ]
        # Not `localhost`: a rendezvous on a node's own name would be looked for by every node at
        # home.
        torchrun += [
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={meeting}:{PORT}",
            "--rdzv-id=two-nodes",
        ]
        torchrun += [f"--rdzv-conf=is_host={int(self.address == meeting)},join_timeout=120"]
        torchrun += [f"--local-addr={self.address}", "-m"]
        path = os.pathsep.join((str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")))
        environment = {
            "GLOO_SOCKET_IFNAME": self.interface,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": path,
        }
        with log.open("w") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *torchrun, *words],
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
                stderr=file,
                text=True,
                start_new_session=True,
            )


@contextlib.contextmanager
def nodes() -> Iterator[tuple[Node, Node]]:
    """Two joined nodes, which vanish with the block, and all that still runs on them."""
    tag = f"sh{os.getpid() % 100000}"
    first, second = (Node(i, f"{tag}-{i}", f"{tag}v{i}", f"10.231.77.{i + 1}") for i in range(2))
    try:
        for node in (first, second):
            _ip("netns", "add", node.name)
        one_end = ("link", "add", first.interface, "netns", first.name, "type", "veth")
        _ip(*one_end, "peer", "name", second.interface, "netns", second.name)
        for node in (first, second):
            _ip("-n", node.name, "addr", "add", f"{node.address}/24", "dev", node.interface)
            _ip("-n", node.name, "link", "set", "lo", "up")
            node.mend()
        yield first, second
    finally:
        for node in (first, second):
            for pid in processes(node):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", node.name], capture_output=True, check=False)


def processes(node: Node) -> list[int]:
    """All that runs on a node."""
    said = subprocess.run(
        ["ip", "netns", "pids", node.name], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in said.stdout.split()]


def rank_of(node: Node) -> int:
    """The process of the rank that a node of one rank runs."""
    for pid in processes(node):
        with contextlib.suppress(OSError):
            if b"\0RANK=" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"seehear" in words and b"torch.distributed.run" not in words:
                    return pid
    raise ProcessLookupError(f"no rank runs on {node.name}")


def why_not() -> str:
    """What is missing for two nodes on this machine; empty where nothing is."""
    if shutil.which("ip") is None:
        return "there is no `ip` (Debian: iproute2)"
    name = f"sh{os.getpid() % 100000}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return (
            f"network namespaces need a privilege that this process does not have "
            f"({made.stderr.strip()})"
        )
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return ""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def main() -> int:
    """Train on two nodes; 0 when both end well."""
    index, run, *more = sys.argv[1:]
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 2
    words = ["seehear", "pretrain", index, "--out", run, "--resume-if-there", *more]
    Path(run).parent.mkdir(parents=True, exist_ok=True)
    with nodes() as (first, second):
        logs = [Path(f"{run}.node{node.number}.log") for node in (first, second)]
        started = [
            node.torchrun(first.address, words, log=log)
            for node, log in zip((first, second), logs, strict=True)
        ]
        codes = [process.wait() for process in started]
    for node, code in enumerate(codes):
        print(f"node {node}: exit code {code}, what it said: {logs[node]}", file=sys.stderr)
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main())
