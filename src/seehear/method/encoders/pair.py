"""Which encoders learn together? One a modality, in the control a twin of each, with heads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from seehear.data.placing import MODALITIES
from seehear.errors import UsageError
from seehear.method.encoders.resnets import VideoEncoder

TWINS = {"video2": "video", "audio2": "audio"}  # name of the second encoder -> its modality
ENCODERS = (*MODALITIES, *TWINS)


def modality_of(encoder: str) -> str:
    """What an encoder takes, by its name: "video" or "audio"."""
    return TWINS.get(encoder, encoder)


def modalities_of(encoders: Collection[str]) -> tuple[str, ...]:
    """What some encoders take together."""
    taken = {modality_of(name) for name in encoders}
    return tuple(modality for modality in MODALITIES if modality in taken)


class Pair(nn.Module):
    """The two encoders and their heads: one linear head for every space that teaches an encoder.

    Args:
        video: any module, frames -> (B, D) features, with an integer `feature_dim`; None where
            there is none.
        audio: the same for log-mel spectrograms. One with a true attribute `takes_waveform` gets
            waveforms (B, L).

    `heads["video"]["audio"]` maps the video encoder's features to scores over the clusters of the
    audio space. A pair of one encoder has a feature for one modality; it can be used, but nothing
    can teach it across modalities.

    Raises:
        ValueError: neither is given.
    """

    def __init__(self, video: nn.Module | None = None, audio: nn.Module | None = None) -> None:
        super().__init__()
        given = {
            name: encoder
            for name, encoder in zip(MODALITIES, (video, audio), strict=True)
            if encoder is not None
        }
        if not given:
            raise ValueError("A pair needs a video encoder, an audio encoder, or both.")
        self.is_frozen = False
        self.encoders = nn.ModuleDict(given)
        self.heads = nn.ModuleDict({name: nn.ModuleDict() for name in given})

    def add_twins(self, twins: Mapping[str, nn.Module]) -> Pair:
        """Second encoders, "video2" and "audio2": they teach, learn, and are left behind."""
        self.encoders.update(twins)
        self.heads.update({name: nn.ModuleDict() for name in twins})
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of "video" and "audio" there is an encoder for."""
        return tuple(name for name in MODALITIES if name in self.encoders)

    def encoder(self, modality: str) -> nn.Module:
        """One modality's encoder, or a twin.

        Raises:
            UsageError: there is none.
        """
        if modality not in self.encoders:
            raise UsageError(
                f"There is no {modality} encoder here, only one for "
                f"{' and '.join(self.modalities)}."
            )
        return self.encoders[modality]

    def feature_dim(self, modality: str) -> int:
        """The width D of one modality's features."""
        return int(self.encoder(modality).feature_dim)  # type: ignore[arg-type]

    def recompute(self, recompute: bool) -> None:
        """Whether the video encoder computes its activations again in the backward pass."""
        for encoder in self.encoders.values():
            if isinstance(encoder, VideoEncoder):
                encoder.recompute = recompute

    def freeze(self) -> None:
        """Train the heads alone: encoders keep their weights and running statistics."""
        self.is_frozen = True
        self.encoders.requires_grad_(False)
        self.encoders.eval()

    def train(self, mode: bool = True) -> Pair:
        """As every module's, but frozen encoders stay in evaluation mode."""
        super().train(mode)
        if self.is_frozen:
            self.encoders.eval()
        return self

    def heads_for(self, student: str) -> nn.ModuleDict:
        """The heads of one encoder, by the space that teaches them."""
        heads = self.heads[student]
        assert isinstance(heads, nn.ModuleDict)
        return heads

    @property
    def students(self) -> tuple[str, ...]:
        """The encoders that have heads, and so can be taught."""
        return tuple(name for name in self.encoders if len(self.heads_for(name)))

    def modules_of(self, students: Sequence[str]) -> nn.ModuleList:
        """What is trained of some students: their encoders, unless these are frozen, and heads."""
        encoders = [] if self.is_frozen else [self.encoders[name] for name in students]
        return nn.ModuleList([*encoders, *(self.heads_for(name) for name in students)])

    def state_of(self, students: Sequence[str]) -> dict[str, Tensor]:
        """The part of the state dictionary that some students have, by the names it has there."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if name.split(".")[1] in students
        }

    def renew_heads(
        self, heads: Mapping[str, Mapping[str, int]], generator: torch.Generator
    ) -> None:
        """Replace all heads by new ones.

        Args:
            heads: for each student ("video", "audio") the clusterings that teach it, with their
                number of clusters.
            generator: draws the weights, on the CPU.
        """
        device = next(self.parameters()).device
        for student, clusterings in heads.items():
            new = nn.ModuleDict()
            for name, num_clusters in clusterings.items():
                # Draws nothing of the global generator, from which another thread may build a pair.
                head = nn.Linear(self.feature_dim(student), num_clusters, device="meta")
                head = head.to_empty(device="cpu")
                nn.init.normal_(head.weight, 0.0, 0.01, generator=generator)
                nn.init.zeros_(head.bias)
                new[name] = head.to(device)
            self.heads[student] = new

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """{"video": frames, "audio": log-mel} -> {student: {space: scores (B, K)}}."""
        return self.scores(self.features(inputs))

    def features(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"video": frames, "audio": log-mel} -> {modality: features (B, D)}; also of twins."""
        return {name: self.encoders[name](batch) for name, batch in inputs.items()}

    def scores(self, features: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """{modality: features (B, D)} -> {student: {space: scores (B, K)}}."""
        return {
            modality: {space: head(features_BD) for space, head in self.heads_for(modality).items()}
            for modality, features_BD in features.items()
        }
