"""Words that a newcomer does not know are explained, alike on the console and on the page."""

from __future__ import annotations

import json
import re

import pytest

from command_here import command
from seehear.reporting.glossary import GLOSSARY, words_of


def test_each_word_of_a_round_is_explained(index_folder, tmp_path, monkeypatch, capsys):
    words = ("--out", tmp_path / "r", "--preset", "debug", "--rounds", 1, "--explain")
    assert command(monkeypatch, "pretrain", index_folder, *words) == 0
    said = capsys.readouterr().err
    first = said.index("round 1/1")
    for word, meaning in words_of("pretrain").items():
        assert -1 < said.find(f"{word}: {meaning}") < first, word
    line = said[first:].splitlines()[0]
    for word in ("loss", "accuracy", "held out", "NMI", "AMI", "sizes", "RankMe"):
        assert word in line, "it is not there to be explained"
        assert word in words_of("pretrain")


@pytest.mark.parametrize(
    ("task", "heads"),
    [
        ("probe", ["top-1", "95 % interval", "top-5", "chance", "majority"]),
        ("finetune", ["top-1", "95 % interval", "top-5", "chance", "majority"]),
        ("retrieval", ["gallery", "R@1", "chance"]),
        ("clusters", ["K", "NMI", "AMI", "ARI", "purity", "Hungarian", "entropy", "sizes"]),
        ("page", ["NMI", "ln K", "K", "held out", "purity"]),
    ],
)
def test_each_word_of_an_answer_is_explained(task, heads):
    assert words_of(task).keys() >= set(heads)


def test_evaluate_explains_after_its_answer(
    finished_run, videos, index_folder, monkeypatch, capsys
):
    words = ("--task", "clusters", "--data", index_folder, "--classes", videos / "classes.csv")
    assert command(monkeypatch, "evaluate", finished_run, *words, "--explain") == 0
    said = capsys.readouterr().out
    assert said.index("purity: the share of segments") > said.index("NMI is normalised by")
    assert "R@1" not in said


def test_the_page_has_the_same_words(shown):
    text = (shown / "run" / "report" / "data" / "report.js").read_text(encoding="utf-8")
    found = json.loads(re.search(r'"glossary":\s*(\{[^{}]*\})', text)[1])
    assert found == words_of("page")
    assert all("." in word.meaning[-1:] for word in GLOSSARY)
