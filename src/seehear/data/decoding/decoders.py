"""What does it cost training when a file takes its decoding process with it?

The first time nothing, since the machine may have been at fault; the second time its row.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator

from seehear.data.decoding.pool import Pool
from seehear.data.decoding.request import Decoded, Request, decode
from seehear.data.decoding.worker import Job
from seehear.data.index.examination import Rejection
from seehear.errors import MediaError

TRIES = 2  # so often a file may take a process with it


class Decoders:
    """Processes that decode clips.

    Args:
        workers: how many; with 0, this process decodes, without protection from crashes and hangs.
        timeout_s, cache_gigabytes: as in `Pool`.

    Attributes:
        quarantine: rows that were given up, and why. They are answered at once with that.
    """

    def __init__(self, workers: int, timeout_s: float, cache_gigabytes: float = -1.0) -> None:
        self.quarantine: dict[int, Rejection] = {}
        self._cache_gigabytes = cache_gigabytes
        task = f"{decode.__module__}:{decode.__name__}"
        self._pool = (
            Pool(task, workers, timeout_s, tries=TRIES, cache_gigabytes=cache_gigabytes)
            if workers
            else None
        )

    def close(self) -> None:
        """End all processes; see `Pool.close`."""
        if self._pool is not None:
            self._pool.close()

    def run(
        self,
        requests: Iterable[Request],
        *,
        ahead: int,
        say: Callable[[str], None] = lambda line: None,
    ) -> Generator[Decoded | MediaError]:
        """One pass: an answer for each request, in their order, `ahead` as in `Pool.run`.

        `say` is told of each process that was lost, with the file that it was at.
        """
        if self._pool is None:
            for request in requests:
                yield _checked(request, decode(request, self._cache_gigabytes))
            return
        drawn: deque[Request] = deque()

        def jobs() -> Iterator[Job | Rejection]:
            for request in requests:
                drawn.append(request)
                yield self.quarantine.get(request.row) or (request,)

        with contextlib.closing(self._pool.run(jobs(), ahead=ahead)) as answers:
            for answer in answers:
                request = drawn.popleft()
                for number, loss in enumerate(answer.losses, 1):
                    then = "It is tried once more."
                    if number == TRIES:
                        then = f"Row {request.row} is left out from here on."
                        self.quarantine[request.row] = loss
                    say(f"{request.path} {loss.reason} ({loss.detail}). {then}")
                yield _checked(request, answer.content)


def _checked(request: Request, content: Decoded | Rejection) -> Decoded | MediaError:
    if isinstance(content, Rejection):
        return MediaError(request.path, content.reason, content.detail)
    return content
