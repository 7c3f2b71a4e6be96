"""What do the numbers mean? A line for each word that a newcomer does not know."""

from __future__ import annotations

from dataclasses import dataclass

ROUNDS = ("pretrain", "page")
MEASURED = ("probe", "finetune")


@dataclass(frozen=True)
class Word:
    """A word, what it means in a sentence or two, and where it stands."""

    word: str
    meaning: str
    where: tuple[str, ...]


GLOSSARY = (
    Word(
        "cluster",
        "a group of segments with similar features, found by k-means. Its number is the "
        "pseudo-label of its segments: what an encoder learns to predict in place of a class.",
        (*ROUNDS, "clusters"),
    ),
    Word("K", "the number of clusters.", (*ROUNDS, "clusters")),
    Word(
        "round",
        "features of all segments, their clusters, then some epochs in which each encoder learns "
        "the clusters of its teacher; an epoch is one pass over the clips.",
        ROUNDS,
    ),
    Word(
        "loss",
        "how surprised an encoder is by the right cluster, in nats (cross-entropy); lower is "
        "better.",
        ROUNDS,
    ),
    Word(
        "ln K",
        "the loss of guessing among K clusters: 5.5 for 256, 2.8 for 16. A loss that stays there "
        "means that nothing is learned.",
        ROUNDS,
    ),
    Word("accuracy", "the share of clips whose cluster an encoder names.", ROUNDS),
    Word(
        "held out",
        "recordings kept out of training. What is right there, too, was understood and not "
        "learned by heart.",
        ROUNDS,
    ),
    Word(
        "NMI",
        "normalised mutual information: how far two groupings of the same segments agree, 0 if "
        "they have nothing to do with each other, 1 if they are the same but for names. With last: "
        "with the clusters that these grew from: of the round before, or of that before it "
        "where the senses teach each other.",
        (*ROUNDS, "clusters"),
    ),
    Word(
        "AMI",
        "NMI corrected for what chance gives: 0 is chance, 1 the same grouping. Video-audio: of "
        "what is seen with what is heard.",
        (*ROUNDS, "clusters"),
    ),
    Word("sizes", "segments in the smallest and the largest cluster.", (*ROUNDS, "clusters")),
    Word(
        "RankMe",
        "in how many directions the features vary: 1 where all are alike, at most as many as a "
        "feature has numbers. A fall towards 1 is a collapse.",
        ROUNDS,
    ),
    Word(
        "variance between recordings",
        "how much of what features tell apart is which recording a segment is from, and not what "
        "happens in it; chance is what numbers without meaning give.",
        ROUNDS,
    ),
    Word("chance", "what guessing gives.", ("probe", "finetune", "retrieval")),
    Word("majority", "what always naming the most frequent class gives.", MEASURED),
    Word("top-1", "the share of test items whose class is named first.", MEASURED),
    Word("top-5", "the share whose class is among the first five named.", MEASURED),
    Word(
        "mAP",
        "mean average precision, where an item may have several classes: how purely each class's "
        "items come first when all are sorted by its score; mean over classes.",
        MEASURED,
    ),
    Word(
        "95 % interval",
        "from where to where the value goes when test items are drawn anew 95 times of 100.",
        MEASURED,
    ),
    Word(
        "probe",
        "a linear classifier on features that stay as they are: what is good there was learned "
        "without classes.",
        ("probe",),
    ),
    Word("examples a class", "accuracy where only so many training items have a class.", MEASURED),
    Word(
        "R@1",
        "recall at rank 1: the share of queries whose nearest answer is of the same class. R@5: "
        "one of the nearest five is.",
        ("retrieval",),
    ),
    Word("gallery", "what is searched.", ("retrieval",)),
    Word(
        "ARI",
        "the share of pairs of segments on which two groupings agree, corrected as AMI is.",
        ("clusters",),
    ),
    Word(
        "purity",
        "the share of segments that are of the most frequent class of their cluster; it grows with "
        "K by itself.",
        ("clusters", "page"),
    ),
    Word(
        "Hungarian",
        "accuracy when each class may name one cluster at most, in the best way.",
        ("clusters",),
    ),
    Word(
        "entropy",
        "how mixed the classes of a cluster are, in nats, a mean over segments; 0 is pure.",
        ("clusters",),
    ),
)


def words_of(where: str) -> dict[str, str]:
    """word -> meaning, for "pretrain", "page" or a task of `seehear.evaluate`."""
    return {word.word: word.meaning for word in GLOSSARY if where in word.where}


def explanation(where: str) -> list[str]:
    """Lines for a console."""
    return [f"{word}: {meaning}" for word, meaning in words_of(where).items()]
