"""Which encoders of others lie on this machine already, so that nothing need be downloaded?"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from seehear.machine.outputs import read_marker
from seehear.models.fetching import weights_folder
from seehear.models.huggingface import PREFIX
from seehear.models.released import RELEASED

BOTH, SEEN, HEARD = (
    ("pe_audio_video",),
    ("vjepa2", "videomae"),
    ("clap", "audio-spectrogram-transformer"),
)


def downloaded() -> list[str]:
    """Names for `seehear.load` that give both senses together: one, two, or none.

    The families of Hugging Face are preferred in the order above; for video released weights come
    last.
    """
    cached = networks_in_cache()
    for family in BOTH:
        if family in cached:
            return [cached[family]]
    fetched = [
        entry.name for entry in RELEASED.values() if (weights_folder() / entry.file).exists()
    ]
    seen = [*(cached[family] for family in SEEN if family in cached), *fetched]
    heard = [cached[family] for family in HEARD if family in cached]
    return [seen[0], heard[0]] if seen and heard else []


def networks_in_cache() -> dict[str, str]:
    """Family -> the name of a network of it whose weights are in Hugging Face's cache."""
    if find_spec("transformers") is None:
        return {}
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return {}
    found: dict[str, str] = {}
    for repository in sorted(repositories, key=lambda r: r.repo_id, reverse=True):
        for revision in repository.revisions:
            snapshot = Path(revision.snapshot_path)
            family = read_marker(snapshot / "config.json").get("model_type")
            if isinstance(family, str) and any(snapshot.glob("*.safetensors")):
                found[family] = PREFIX + repository.repo_id
    return found
