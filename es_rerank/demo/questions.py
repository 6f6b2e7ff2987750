"""The demo's questions and judgments, limited to the documents that this interpreter has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question and the grades (0 to 2) of the documents that were judged for it."""

    id: str
    text: str
    grades: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedQuestions:
    """The questions that can be asked here. `skipped_names` counts judged documents that this Python lacks."""

    questions: tuple[Question, ...]
    skipped_names: int


def read_questions(known_names: Collection[str]) -> JudgedQuestions:
    """The questions, with judgments of documents that exist. A question that none of them answers is left out."""
    kept: list[Question] = []
    skipped: set[str] = set()
    text = files("es_rerank.demo").joinpath("questions.json").read_text(encoding="utf-8")
    for entry in json.loads(text)["questions"]:
        grades = {name: grade for name, grade in entry["grades"].items() if name in known_names}
        skipped |= entry["grades"].keys() - grades.keys()
        if any(grades.values()):
            kept.append(Question(id=entry["id"], text=entry["text"], grades=grades))
    return JudgedQuestions(questions=tuple(kept), skipped_names=len(skipped))
