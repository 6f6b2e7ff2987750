"""From what a model wrote behind its thinking to the form of its answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.scorers.erank.form import LONGEST_BEFORE, TAGGED, AnswerForm, learn_form

# What models write, or were seen to write: tags as asked for, blanks and line ends around them, and none at all.
FORMS = [
    TAGGED,
    AnswerForm("\n<answer>", "</answer>"),
    AnswerForm("\n\n<answer>", "\n</answer>"),
    AnswerForm("<answer> ", " </answer>"),
    AnswerForm("<answer>\n", "\n</answer>"),
    AnswerForm("<answer>Score: ", "</answer>"),
    AnswerForm("Answer: ", "<|im_end|>"),
    AnswerForm("\n\nAnswer: ", ".\n\n"),
    AnswerForm("\n\n", "<|im_end|>"),
    AnswerForm("\n\n**", "**<|im_end|>"),
]
ANSWERS = st.integers(0, 10)
SIGNS = st.text(st.characters(exclude_categories=["Cs", "N", "L"], exclude_characters="-_\u2212<\n"), max_size=10)


@pytest.mark.parametrize("form", FORMS)
@given(answer=ANSWERS, more=st.sampled_from(["", "\n", "\nThe end 12.", "<|im_end|>"]))
def test_a_form_is_learnt_whatever_the_answer_is(form: AnswerForm, answer: int, more: str) -> None:
    """Each form is found as it is, from any answer; what comes behind its end does not matter."""
    closed = form.after.endswith(("</answer>", "\n", "<|im_end|>")) and "</answer>" in form.after
    assert learn_form(f"{form.before}{answer}{form.after}{more if closed else ''}") == form


@given(SIGNS, ANSWERS, SIGNS.filter(bool))
def test_what_is_learnt_spells_what_was_written(before: str, answer: int, after: str) -> None:
    """Before, number and what follows are the text from its beginning on, wherever there is one number."""
    form = learn_form(f"{before}{answer}{after}")
    assert form == AnswerForm(before, after)


@given(st.lists(st.sampled_from([*"0178 \n.-x", "10", "<answer>", "</answer>", "Score: "]), max_size=9).map("".join))
def test_what_is_learnt_can_stand_before_any_answer(text: str) -> None:
    """Of any text: what is learnt has no number in it, is short, and would be learnt again from another answer."""
    form = learn_form(text)
    if form is not None:
        assert len(form.before) <= LONGEST_BEFORE
        assert text.startswith(form.before)
        assert form.after
        assert not any(character in "0123456789" for character in form.before + form.after)
        for answer in range(11):
            assert learn_form(f"{form.before}{answer}{form.after}") == form


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot tell.",
        "<answer>relevant</answer>",
        "<answer>11</answer>",
        "<answer>-7</answer>",
        "<answer>\N{MINUS SIGN}7</answer>",
        "<answer>7.5</answer>",
        "<answer>0.7</answer>",
        "<answer>7/10</answer>",
        "<answer>7 or 8</answer>",
        "<answer>07</answer>",
        "<answer>x7</answer>",
        "<answer>7th</answer>",
        "On a scale of 0 to 10: 7",
        "The score is 3, so\n<answer>7</answer>",
        "<answer>7",  # cut before it is known what follows
        "x" * (LONGEST_BEFORE + 1) + "7.",
        "\N{ARABIC-INDIC DIGIT SEVEN}.",
    ],
)
def test_what_is_no_answer_is_not_guessed(text: str) -> None:
    """Where it isn't one whole number from 0 to 10 beyond doubt, nothing is learnt."""
    assert learn_form(text) is None
