"""How a model writes its answer once its thinking is over: what stands before the number, and what ends it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

ANSWER, ANSWER_END = "<answer>", "</answer>"
ANSWERS = frozenset(str(answer) for answer in range(11))
# What stands before the number is put before every document's answer, so it can't be prose about one of them.
LONGEST_BEFORE = 64
NUMBER = re.compile(r"[0-9]+")
END_TAG = re.compile(rf"\s*{ANSWER_END}")
LINE = re.compile(r"[^\n]*\n*")


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What stands between `</think>` and the number, and what follows the number, as far as it is known."""

    before: str
    after: str


TAGGED = AnswerForm(before=ANSWER, after=ANSWER_END)
"""ERank's own form, as its prompt asks for it."""


def learn_form(written: str) -> AnswerForm | None:
    """The form of an answer, from the text that a model wrote behind `</think>`; None where no answer is recognised.

    The answer is the first number behind `<answer>`, or of the whole text where there is no such tag. It is a whole
    one from 0 to 10; no number comes before it, nor behind it up to the closing tag or the end of the line, which is
    how far what follows is known.
    """
    number = NUMBER.search(written, max(0, written.find(ANSWER)))
    if number is None or number[0] not in ANSWERS:
        return None
    before, behind = written[: number.start()], written[number.end() :]
    after = END_TAG.match(behind) or LINE.match(behind)
    if after is None or not after[0] or len(before) > LONGEST_BEFORE:
        return None
    if NUMBER.search(before) or NUMBER.search(after[0]) or _joins(before[-1:]) or _joins(behind[:1]):
        return None
    return AnswerForm(before=before, after=after[0])


def _joins(neighbour: str) -> bool:
    """Whether a number beside this character is only a part of something: a word, a negative or a broken number."""
    return neighbour.isalnum() or neighbour in {"-", "\N{MINUS SIGN}", "_"}
