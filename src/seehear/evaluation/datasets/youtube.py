"""Where is the clip of a YouTube video? Sets that list ids and times are stored under many names.

A name with times is a clip that was cut to them: all of it counts. A name that is the bare id is
the whole video as it was downloaded, of which the listed stretch counts, except where cut clips are
commonly passed on under the bare id.
"""

from __future__ import annotations

from collections.abc import Iterator

from seehear.evaluation.datasets.tree import Tree, key_of

ID_LENGTH = 11  # of every YouTube id


class Clips:
    """The media files of a tree, by YouTube id and times.

    Args:
        tree: the folder.
        bare_is_cut: files named by the bare id are cut clips, not whole videos.
    """

    def __init__(self, tree: Tree, *, bare_is_cut: bool = False) -> None:
        self._files = tree.index()
        self._bare_is_cut = bare_is_cut
        # Most ids of a big list have no file with times: one look at this set settles it.
        self._timed = {stem[:ID_LENGTH] for stem in self._files if len(stem) > ID_LENGTH}
        self._timed |= {
            stem[1 : ID_LENGTH + 1]
            for stem in self._files
            if len(stem) > ID_LENGTH + 1 and stem[0] == "Y"
        }

    def find(
        self, video: str, start_s: float, end_s: float
    ) -> tuple[str | None, float, float | None]:
        """The file of a clip, and the stretch of it that counts: (path or None, start_s, seconds or
        None).
        """
        video = key_of(video)
        if len(video) != ID_LENGTH or video in self._timed:
            for stem in _names(video, start_s, end_s):
                if stem in self._files:
                    return self._files[stem], 0.0, None
        for stem in (video, f"Y{video}"):
            if stem in self._files:
                stretch = (0.0, None) if self._bare_is_cut else (start_s, end_s - start_s)
                return self._files[stem], *stretch
        return None, 0.0, None


def _names(video: str, start_s: float, end_s: float) -> Iterator[str]:
    """The names, without ending, under which a cut clip is stored: seconds with and without zeros,
    milliseconds.
    """
    start, end = int(start_s), int(end_s)
    for name in (video, f"Y{video}"):
        yield f"{name}_{start:06d}_{end:06d}"
        yield f"{name}_{start:06d}"
        yield f"{name}_{start}_{end}"
        yield f"{name}_{start}"
        yield f"{name}_{round(start_s * 1000)}_{round(end_s * 1000)}"
        for digits in (1, 3):
            yield f"{name}_{start_s:.{digits}f}_{end_s:.{digits}f}"
            yield f"{name}_{start_s:.{digits}f}"
            yield f"{name}-{start_s:.{digits}f}-{end_s:.{digits}f}"
