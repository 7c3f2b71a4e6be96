"""How do encoders become a model of Hugging Face's hub, with a card that says what they are?

    model = HubModel.from_pretrained("FOLDER or USER/NAME").model()
    features_BD = model.video(frames)

The folder holds `config.json`, `model.safetensors` and the card, `README.md`. The extra `hub`
brings huggingface_hub.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from seehear.errors import UsageError
from seehear.machine.devices import Numerics, find_device
from seehear.machine.reading import readable
from seehear.method.encoders import Pair
from seehear.models.files import described, weights_of
from seehear.models.model import Model

TAGS = ["video", "audio", "self-supervised", "cross-modal clustering"]


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="seehear", tags=[*TAGS]):
    """Encoders that can be saved to and loaded from Hugging Face's hub, or a folder in its layout.

    Args:
        record: what `encoders.json` holds; kept in `config.json`.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__()
        self.record = record
        self._about = described(record, "config.json")
        # weights come with their file
        self.pair, self.clip = (self._about.shapes(), self._about.clip)
        self.eval()

    @classmethod
    def of(cls, pair: Pair, record: dict[str, Any]) -> HubModel:
        """A hub model with the weights of a pair."""
        made = cls(record)
        made.pair = made._about.with_weights(pair.state_dict()).eval()
        return made

    def model(self, device: str = "auto") -> Model:
        """The encoders as `seehear.load` gives them."""
        numerics = Numerics(find_device(device), "fp32", "contiguous")
        return Model(numerics.place(self.pair).eval(), self.clip, numerics, self.record)

    def forward(
        self, frames_BCTHW: Tensor | None = None, logmel_B1MS: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Frames, log-mel images, or both -> modality -> features (B, D)."""
        given = {"video": frames_BCTHW, "audio": logmel_B1MS}
        return {name: self.pair.encoder(name)(x) for name, x in given.items() if x is not None}

    @classmethod
    def _load_as_safetensor(
        cls, model: Any, model_file: str, map_location: str, strict: bool
    ) -> Any:
        model.pair = weights_of(
            model._about, Path(model_file)
        ).eval()  # strictly, whatever was asked for
        return model.to(map_location)


def card(model: Model, run: Path, licence: str | None) -> str:
    """The model card, in Markdown: what it is, how to load it, its input, training, results and
    licence.

    Args:
        run: where `results/*.json` and `run.json` are looked for.
        licence: of the weights; None takes what is recorded, or says that none was stated.
    Raises:
        UsageError: the licence is no identifier such as mit or cc-by-4.0.
    """
    source = model.info.get("source", {})
    licence = licence or source.get("licence")
    if licence is not None and not re.fullmatch(r"[A-Za-z0-9.+-]+", licence):
        raise UsageError(
            f"The licence is {licence!r}. It must be an identifier such as apache-2.0, mit or "
            f"cc-by-4.0."
        )
    head = {
        "library_name": "seehear",
        "license": licence.lower() if licence else "unknown",
        "tags": TAGS,
    }
    variant = model.info.get("variant")
    title = source.get("name") or (
        f"{variant.upper()} encoders" if variant else f"Encoders {model.digest}"
    )
    if licence is None:
        terms = (
            "No licence was stated when this folder was written; ask whoever published it "
            "before you use it."
        )
    else:
        terms = f"{licence}" + (
            f", as its makers state at {source['home']}." if "home" in source else "."
        )
    parts = [
        "---\n" + "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items()) + "\n---",
        f"# {title}",
        f"Features of clips, from {' and '.join(model.modalities)}. Weights {model.digest}.",
        LOADING,
        "## Input\n\n" + input_table(model),
        "## Training\n\n" + training(model, run),
        "## Results\n\n" + results_table(run, source),
        f"## Licence\n\n{terms}",
    ]
    return "\n\n".join(parts) + "\n"


LOADING = """## Use

```python
import seehear

model = seehear.load("FOLDER")      # this folder
seehear.embed_file(model, "clip.mp4")  # {"video": (D,), "audio": (D,)}, as file and model have
```

or, from the hub as well, `seehear.models.hub.HubModel.from_pretrained("NAME").model()`
(`pip install 'seehear[hub]'`)."""


def input_table(model: Model) -> str:
    """What clips should be."""
    clip, rows = model.clip, []
    if "video" in model.modalities:
        rows.append(
            ("frames", f"{clip.frames} at {clip.frame_rate_hz:g} a second, RGB, 0..255 or [0, 1]")
        )
        rows.append(
            (
                "size",
                f"{clip.crop_pixels} x {clip.crop_pixels} out of a short side of "
                f"{clip.short_side_pixels}",
            )
        )
    if "audio" in model.modalities:
        rows.append(("sound", f"{clip.sound_seconds:g} s, mono, {clip.sample_rate_hz} Hz, [-1, 1]"))
        rows.append(("log-mel", f"{clip.mel_bins} x {clip.spectrogram_frames}, made by seehear"))
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def training(model: Model, run: Path) -> str:
    """On what and how the encoders were trained, as far as it is recorded."""
    source = model.info.get("source")
    if source is not None:
        about = source.get("about", "Converted from a checkpoint of unknown origin.")
        return f"{about}\n\nFile {source['file']}, SHA-256 {source['sha256']}."
    facts = [
        f"{key}: {model.info[key]}"
        for key in ("variant", "rounds", "seehear", "commit")
        if key in model.info
    ]
    index = model.info.get("index", {})
    if index:
        facts.append(f"data: {index.get('rows')} segments, index {index.get('digest')}")
    lines = "\n".join(f"- {fact}" for fact in facts)
    record = run / "run.json"
    if not record.exists():
        return lines
    with readable(record, "Restore it, or export a folder of encoders alone."):
        settings = json.dumps(json.loads(record.read_text(encoding="utf-8"))["settings"], indent=1)
    return f"{lines}\n\nAll settings:\n\n```json\n{settings}\n```"


def results_table(run: Path, source: dict[str, Any]) -> str:
    """What was measured: every value in `results/*.json`, and what the makers publish, marked as
    such.
    """
    rows = []
    for path in sorted((run / "results").glob("*.json")):
        with readable(path, "Remove it, or evaluate again."):
            result = json.loads(path.read_text(encoding="utf-8"))
            count, chance = result.get("n", result.get("n_test", "")), result.get("chance", "")
            chance = f"{chance:.3g}" if isinstance(chance, float) else chance or ""
            values = numbers(result.get("values", {}))
        rows += [
            f"| {path.stem} | {name} | {value:.4g} | {count} | {chance} |"
            for name, value in values.items()
        ]
    published = source.get("published", {})
    rows += [
        f"| {name}, full fine-tuning (published) | accuracy in % | {value} | | |"
        for name, value in published.items()
    ]
    if not rows:
        return "Nothing was measured yet."
    return "\n".join(["| task | what | value | n | chance |", "|---|---|---|---|---|", *rows])


def numbers(values: Any, prefix: str = "") -> dict[str, float]:
    """All numbers of nested results, by the names on the way to them."""
    found: dict[str, float] = {}
    for name, value in values.items() if isinstance(values, dict) else []:
        if isinstance(value, dict):
            found |= numbers(value, f"{prefix}{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name] = float(value)
    return found
