"""How well do a sight and a sound go together? By their distributions over the same clusters.

Each encoder learned to predict the clusters of its teachers, so that a video and a sound, whose
features have nothing in common, are described in the same words: p_k, the chance of cluster k.

    XDC  video head -> audio clusters, and the sound's own audio cluster;
         audio head -> video clusters, and the video's own video cluster
    MDC  both heads of both encoders -> the same video clusters and audio clusters
    CDC  the head of each encoder -> the same joint clusters (of both, where students take turns and
         clusters were made anew between them, the older ones are translated to the newer)
    SDC  each head predicts its own sense's clusters: they are translated by how often training
         rows were in both; the same-modality control likewise, by its own clusters

The own cluster of a feature is a softmax over its products with prototypes: the mean of the
prepared features of the training rows that carried the label, times a sharpness fitted to these
labels by maximum likelihood. Prepared is without what is the recording's, as clusters are; heads
take features as they are. The score of a video v and a sound a is the mean over shared
clusterings of log sum_k p_k(v) p_k(a): the log-probability that both draw the same cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seehear.config import Cluster
from seehear.data.placing import MODALITIES
from seehear.method.agreement import pairs_of
from seehear.method.clusters import Clusters, Space, centrings_of, space_of
from seehear.method.encoders import Pair
from seehear.method.encoders.pair import TWINS
from seehear.method.features import Features
from seehear.method.recordings import Centring, Spread

# tried on the training labels: 0.5 to 128
SHARPNESSES = tuple(2.0 ** (step / 2) for step in range(-2, 15))
FLOOR = 1e-6  # added to each probability that two draws agree, before the logarithm


@dataclass(frozen=True)
class Matching:
    """What turns features of either modality into distributions over clusters that both share.

    Args:
        heads: student -> clustering -> (weight (K, D), bias (K,)) of its linear head.
        spaces: modality -> the preparation of its features before prototypes.
        prototypes: clustering of one modality's own features -> (K, D).
        sharpness: clustering -> what the products with its prototypes are multiplied by.
        counts: (K_video, K_audio) how many training rows were in both clusters, by name of the two
            clusterings.
        renewed: student -> clustering -> (K, K') the chance of each of its clusters for a row of
            each that the head names, where the clustering was made anew after the head learned.
    """

    heads: Mapping[str, Mapping[str, tuple[Tensor, Tensor]]]
    spaces: Mapping[str, Space]
    prototypes: Mapping[str, Tensor]
    sharpness: Mapping[str, float]
    counts: Mapping[tuple[str, str], Tensor]
    renewed: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def centrings(self) -> dict[str, Centring]:
        """Modality -> what is taken from its features for their recordings, before prototypes."""
        return centrings_of(self.spaces)

    def distributions(
        self, modality: str, features_ND: Tensor, centred_ND: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Features (N, D) of one modality -> clustering that it knows -> (N, K) probabilities.

        centred_ND: the features without what is their recordings' (`Recordings.without`), by which
        the own cluster is told; by default the same.
        """
        found = {
            name: F.softmax(F.linear(features_ND, weight_KD, bias_K), dim=1)
            for name, (weight_KD, bias_K) in self.heads[modality].items()
        }
        for name, chance_KK in self.renewed.get(modality, {}).items():
            found[name] = found[name] @ chance_KK
        for name, prototypes_KD in self.prototypes.items():
            if space_of(name) == modality and name not in found:
                own_ND = features_ND if centred_ND is None else centred_ND
                prepared_ND = self.spaces[modality]((own_ND,))
                found[name] = F.softmax(self.sharpness[name] * prepared_ND @ prototypes_KD.T, dim=1)
        return found

    def describe(
        self, modality: str, features_ND: Tensor, centred_ND: Tensor | None = None
    ) -> Tensor:
        """Features (N, D) of one modality -> its distributions over all shared clusterings, (N, S).

        They stand side by side, in an order that `scores` knows. centred_ND: as `distributions`.
        """
        found = self.distributions(modality, features_ND, centred_ND)
        parts = []
        for name in self.shared():
            if name in found:
                parts.append(found[name])
            else:  # translated: p(theirs) = sum over ours of p(ours) p(theirs | ours)
                ours, counts = self._translation(modality, name)
                parts.append(found[ours] @ chances(counts))
        return torch.cat(parts, dim=1)

    def scores(self, video_NS: Tensor, audio_MS: Tensor) -> Tensor:
        """Descriptions of videos and of sounds -> (N, M) mean log-probabilities of agreement."""
        total = torch.zeros(len(video_NS), len(audio_MS))
        start = 0
        for k in self._sizes():
            agree_NM = video_NS[:, start : start + k] @ audio_MS[:, start : start + k].T
            total += (agree_NM.cpu() + FLOOR).log()
            start += k
        return total / len(self._sizes())

    def shared(self) -> tuple[str, ...]:
        """The clusterings by which the modalities are compared."""
        video, audio = (
            {*self.heads[m], *(n for n in self.prototypes if space_of(n) == m)} for m in MODALITIES
        )
        return tuple(sorted(video & audio or video | audio))

    def _sizes(self) -> list[int]:
        sizes = {name: len(prototypes) for name, prototypes in self.prototypes.items()}
        for heads in self.heads.values():
            sizes |= {name: len(bias) for name, (_, bias) in heads.items()}
        return [sizes[name] for name in self.shared()]

    def _translation(self, modality: str, wanted: str) -> tuple[str, Tensor]:
        for (video, audio), counts in self.counts.items():
            if modality == "video" and audio == wanted:
                return video, counts
            if modality == "audio" and video == wanted:
                return audio, counts.T
        raise AssertionError(f"no way from {modality} to {wanted}")

    def state_dict(self) -> dict[str, Tensor]:
        """Everything as tensors by name, for safetensors."""
        tensors: dict[str, Tensor] = {}
        for student, heads in self.heads.items():
            for name, (weight_KD, bias_K) in heads.items():
                tensors[f"head/{student}/{name}/weight"] = weight_KD.contiguous()
                tensors[f"head/{student}/{name}/bias"] = bias_K.contiguous()
        for modality, space in self.spaces.items():
            tensors |= {
                f"space/{modality}/{key}": value for key, value in space.state_dict().items()
            }
        for name, prototypes_KD in self.prototypes.items():
            tensors[f"prototypes/{name}"] = prototypes_KD.contiguous()
            tensors[f"sharpness/{name}"] = torch.tensor(self.sharpness[name])
        for (video, audio), counts in self.counts.items():
            tensors[f"counts/{video}/{audio}"] = counts.contiguous()
        for student, chance in self.renewed.items():
            for name, chance_KK in chance.items():
                tensors[f"renewed/{student}/{name}"] = chance_KK.contiguous()
        return tensors

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Tensor]) -> Matching:
        """The inverse of `state_dict`."""
        heads: dict[str, dict[str, tuple[Tensor, Tensor]]] = {m: {} for m in MODALITIES}
        spaces: dict[str, dict[str, Tensor]] = {m: {} for m in MODALITIES}
        prototypes, sharpness, counts = {}, {}, {}
        renewed: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            kind, *rest = key.split("/")
            if kind == "head" and rest[2] == "weight":
                heads[rest[0]][rest[1]] = value, tensors[f"head/{rest[0]}/{rest[1]}/bias"]
            elif kind == "space":
                spaces[rest[0]][rest[1]] = value
            elif kind == "prototypes":
                prototypes[rest[0]] = value
            elif kind == "sharpness":
                sharpness[rest[0]] = float(value)
            elif kind == "counts":
                counts[rest[0], rest[1]] = value
            elif kind == "renewed":
                renewed.setdefault(rest[0], {})[rest[1]] = value
        fitted = {m: Space.from_state_dict(state) for m, state in spaces.items()}
        return cls(heads, fitted, prototypes, sharpness, counts, renewed)


def fit_matching(
    pair: Pair,
    features: Features,
    clusters: Mapping[str, Clusters],
    cfg: Cluster,
    recording_N: np.ndarray,
    outdated: Mapping[str, Mapping[str, Clusters]] | None = None,
) -> Matching:
    """Make a `Matching` of trained encoders, from the rows that they were trained on.

    Args:
        pair: the encoders with the heads of the last round.
        features: of the finished encoders, for the training rows.
        clusters: the last round's, whose labels the heads were trained on.
        cfg: how features are prepared.
        recording_N: of all rows, which recording each is of.
        outdated: student -> clustering -> the older clusters that its head was trained on, where
            `clusters` has newer ones.
    """
    heads: dict[str, dict[str, tuple[Tensor, Tensor]]] = {
        student: {
            name: (head.weight.detach().float().cpu(), head.bias.detach().float().cpu())  # type: ignore[operator]
            for name, head in pair.heads_for(student).items()
            if space_of(name) not in TWINS
        }
        for student in MODALITIES
    }
    parts = {"video": features.video, "audio": features.audio}
    recording_n, spaces, prepared = recording_N[features.rows], {}, {}
    for modality, part in parts.items():
        how = (cfg.features, recording_n, (Spread.of(part, recording_n),), cfg.centre)
        spaces[modality] = Space.fit((part,), *how)
        prepared[modality] = spaces[modality]((part,), recording_n)
    prototypes, sharpness = {}, {}
    for name, c in clusters.items():
        if space_of(name) in MODALITIES:
            labels_n = torch.from_numpy(c.labels_N[features.rows].astype(np.int64))
            x, known = prepared[space_of(name)][labels_n >= 0], labels_n[labels_n >= 0]
            prototypes[name] = means_of(x, known, len(c.clustering.centroids))
            sharpness[name] = fit_sharpness(x @ prototypes[name].T, known)
    counts = {
        (video, audio): contingency(clusters[video], clusters[audio])
        for video in clusters
        for audio in clusters
        if space_of(video) == "video" and space_of(audio) == "audio" and video[5:] == audio[5:]
    }
    renewed = {
        student: {name: chances(contingency(old, clusters[name])) for name, old in of.items()}
        for student, of in (outdated or {}).items()
        if student in MODALITIES
    }
    return Matching(heads, spaces, prototypes, sharpness, counts, renewed)


def means_of(x_nD: Tensor, labels_n: Tensor, num_clusters: int) -> Tensor:
    """The mean row of each label, (K, D); zeros where there is none."""
    sums = torch.zeros(num_clusters, x_nD.shape[1], dtype=torch.float64).index_add_(
        0, labels_n, x_nD.double()
    )
    return (sums / torch.bincount(labels_n, minlength=num_clusters).clamp(min=1)[:, None]).float()


def fit_sharpness(products_nK: Tensor, labels_n: Tensor) -> float:
    """Which of `SHARPNESSES` makes the labels most likely."""
    losses = [
        float(F.cross_entropy(sharpness * products_nK, labels_n)) for sharpness in SHARPNESSES
    ]
    return float(min(zip(losses, SHARPNESSES, strict=True))[1])


def chances(counts: Tensor) -> Tensor:
    """The share of each column in its row; zeros where a row is empty."""
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


def contingency(one: Clusters, other: Clusters) -> Tensor:
    """How many rows carry each pair of labels, (K, K') float32; those without one do not count."""
    counts = torch.zeros(len(one.clustering.centroids), len(other.clustering.centroids))
    ours_P, theirs_P, counts_P = pairs_of(one.labels_N, other.labels_N)
    counts[ours_P, theirs_P] = torch.from_numpy(counts_P).float()
    return counts
