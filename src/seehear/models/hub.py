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
        self.pair, self.clip = self._about.shapes(), self._about.clip  # weights come with the file
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
        model.pair = weights_of(model._about, Path(model_file)).eval()  # always strictly
        return model.to(map_location)


def card(model: Model, run: Path, licence: str | None) -> str:
    """The model card, in Markdown; `run` is where `results/*.json` and `run.json` are.

    Without a licence, the recorded one is taken, or the card says that none was stated.
    """
    source = model.info.get("source", {})
    licence = licence or source.get("licence")
    if licence is not None and not re.fullmatch(r"[A-Za-z0-9.+-]+", licence):
        raise UsageError(
            f"The licence is {licence!r}. It must be an identifier such as apache-2.0 or mit."
        )
    head = {"library_name": "seehear", "license": (licence or "unknown").lower(), "tags": TAGS}
    yaml = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    made = f"{model.info['variant'].upper()} encoders" if "variant" in model.info else ""
    title = source.get("name") or made or f"Encoders {model.digest}"
    stated = f", as its makers state at {source['home']}" if "home" in source else ""
    terms = f"{licence}{stated}." if licence else NO_LICENCE
    parts = [
        f"---\n{yaml}\n---",
        f"# {title}",
        f"Features of clips, from {' and '.join(model.modalities)}. Weights {model.digest}.",
        LOADING,
        "## Input\n\n" + input_table(model),
        "## Training\n\n" + training(model, run),
        "## Results\n\n" + results_table(run, source),
        f"## Licence\n\n{terms}",
    ]
    return "\n\n".join(parts) + "\n"


NO_LICENCE = "No licence was stated; ask whoever published this folder before you use it."
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
    clip, lines = model.clip, ["| | |", "|---|---|"]
    if "video" in model.modalities:
        crop, short_side = clip.crop_pixels, clip.short_side_pixels
        lines += [
            f"| frames | {clip.frames} at {clip.frame_rate_hz:g} a second, RGB, 0..255 or [0, 1] |",
            f"| size | {crop} x {crop} out of a short side of {short_side} |",
        ]
    if "audio" in model.modalities:
        lines += [
            f"| sound | {clip.sound_seconds:g} s, mono, {clip.sample_rate_hz} Hz, [-1, 1] |",
            f"| log-mel | {clip.mel_bins} x {clip.spectrogram_frames}, made by seehear |",
        ]
    return "\n".join(lines)


def training(model: Model, run: Path) -> str:
    """On what and how the encoders were trained, as far as it is recorded."""
    source = model.info.get("source")
    if source is not None:
        about = source.get("about", "Converted from a checkpoint of unknown origin.")
        return f"{about}\n\nFile {source['file']}, SHA-256 {source['sha256']}."
    known = [
        key for key in ("variant", "rounds", "start", "seehear", "commit") if key in model.info
    ]
    lines = [f"- {key}: {model.info[key]}" for key in known]
    if index := model.info.get("index"):
        lines.append(f"- data: {index.get('rows')} segments, index {index.get('digest')}")
    record = run / "run.json"
    if record.exists():
        with readable(record, "Restore it, or export a folder of encoders alone."):
            settings = json.loads(record.read_text(encoding="utf-8"))["settings"]
        lines.append(f"\nAll settings:\n\n```json\n{json.dumps(settings, indent=1)}\n```")
    return "\n".join(lines)


def results_table(run: Path, source: dict[str, Any]) -> str:
    """Every value in `results/*.json`, and what the makers publish, marked as such."""
    rows = []
    for path in sorted((run / "results").glob("*.json")):
        with readable(path, "Remove it, or evaluate again."):
            result = json.loads(path.read_text(encoding="utf-8"))
            count, chance = result.get("n", result.get("n_test", "")), result.get("chance", "")
            chance = f"{chance:.3g}" if isinstance(chance, float) else chance or ""
            values = numbers_in(result.get("values", {})).items()
        rows += [f"| {path.stem} | {n} | {value:.4g} | {count} | {chance} |" for n, value in values]
    rows += [
        f"| {name}, full fine-tuning (published) | accuracy in % | {value} | | |"
        for name, value in source.get("published", {}).items()
    ]
    if not rows:
        return "Nothing was measured yet."
    return "\n".join(["| task | what | value | n | chance |", "|---|---|---|---|---|", *rows])


def numbers_in(values: Any, prefix: str = "") -> dict[str, float]:
    """All numbers of nested results, by the names on the way to them."""
    found: dict[str, float] = {}
    for name, value in values.items() if isinstance(values, dict) else []:
        if isinstance(value, dict):
            found |= numbers_in(value, f"{prefix}{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name] = float(value)
    return found
