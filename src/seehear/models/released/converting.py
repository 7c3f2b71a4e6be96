"""How does a checkpoint file become an encoder with its clip settings, and an `encoders/` folder?

Which of the two rules of mid-planes a file follows is seen from its shapes, and with it the epsilon
of batch norm. A file that was released is known by its SHA-256, whatever it is called.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seehear.config import Clip, Encoders
from seehear.machine.files import whole_folder
from seehear.machine.locks import one_writer
from seehear.machine.outputs import ENCODERS, check_folder
from seehear.machine.tensors import unwrapped
from seehear.models.released.reading import Accounting, account, load_into, read_state
from seehear.models.released.released import BN_EPS, RELEASED, TORCHVISION_CLIP, XDC_CLIP, Released

if TYPE_CHECKING:
    from seehear.method.encoders import Pair

# of a file that nobody knows, by its mid-planes
CLIPS = {"conv": XDC_CLIP, "block": TORCHVISION_CLIP}


@dataclass(frozen=True)
class Opened:
    """A checkpoint as an encoder.

    pair: of the video encoder alone, in evaluation mode, on the CPU; clip: what it is used with;
    record: for `encoders.json`, with its origin as "source"; accounting: of every key.
    """

    pair: Pair
    clip: Clip
    record: dict[str, Any]
    accounting: Accounting


def open_checkpoint(
    file: str | Path, *, midplanes: Literal["auto", "conv", "block"] = "auto"
) -> Opened:
    """An R(2+1)D-18 checkpoint as an encoder.

    Args:
        file: a .pth (or .safetensors) file with the weights of XDC's or torchvision's r2plus1d_18.
        midplanes: "auto" sees it from the shapes.
    Raises:
        CheckpointError: the file cannot be read, or is of another architecture; see `read_state`
            and `load_into`.
    """
    import torch

    from seehear.machine.files import digest_of
    from seehear.method.encoders import Pair, VideoEncoder
    from seehear.models.files import record_of

    state = read_state(file)
    rules: tuple[Literal["conv", "block"], ...] = (
        ("conv", "block") if midplanes == "auto" else (midplanes,)
    )
    with torch.device("meta"):  # shapes alone
        expected = {rule: VideoEncoder(midplanes=rule).state_dict() for rule in rules}
    state = dict(unwrapped(state, expected[rules[0]]))  # names are the same by both rules
    counts = {rule: account(state, expected[rule]) for rule in rules}
    rule = min(rules, key=lambda rule: len(counts[rule].mismatched))
    counts[rule].check(file)
    encoder = VideoEncoder(midplanes=rule, bn_eps=BN_EPS[rule])
    accounting = load_into(encoder, state, file)
    digest = digest_of(Path(file))
    known = next((entry for entry in RELEASED.values() if digest.startswith(entry.sha256)), None)
    pair, clip = Pair(encoder.eval()), known.clip if known else CLIPS[rule]
    info = {"source": {"file": Path(file).name, "sha256": digest, **origin_of(known)}}
    record = record_of(pair, replace(Encoders(), midplanes=rule), clip, info)
    return Opened(pair, clip, record, accounting)


def convert(
    file: str | Path,
    out: str | Path,
    *,
    midplanes: Literal["auto", "conv", "block"] = "auto",
    overwrite: bool = False,
) -> Accounting:
    """Make an `encoders/` folder, for video only, that `seehear.load` opens, of a checkpoint file.

    Args:
        file: see `open_checkpoint`.
        out: the folder; must not exist, unless `overwrite` is set.
    Returns:
        What became of every key.
    Raises:
        RunError: `out` exists.
        CheckpointError: the file cannot be read, or does not fit.
    """
    from seehear.models.files import write_encoders

    out = Path(out)
    check_folder(out, ENCODERS, overwrite=overwrite, inputs=[Path(file)])
    opened = open_checkpoint(file, midplanes=midplanes)
    with one_writer(out), whole_folder(out, replaces=ENCODERS) as folder:
        write_encoders(folder, opened.pair, opened.record)
    return opened.accounting


def origin_of(released: Released | None) -> dict[str, Any]:
    """What is known of a released file, for the record."""
    if released is None:
        return {}
    return {
        "name": released.name,
        "url": released.url,
        "home": released.home,
        "licence": released.licence,
        "about": released.about,
        "published": dict(released.published),
    }
