"""Looks how a model really writes its answer, before the answers of documents are read there.

The models that ERank's authors trained were not at hand when this was written, so what they write between their
thinking and the number is seen at each start of a worker, not assumed.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from workers.errors import WorkerStartError
from workers.scorers.erank.engine import EngineDeadError, RefusedError
from workers.scorers.erank.form import TAGGED, learn_form
from workers.scorers.erank.prompt import UnfitTokenizerError
from workers.scorers.erank.tasks import all_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from workers.scorers.erank.engine import Delta, TokenEngine
    from workers.scorers.erank.prompt import ErankPrompt

LOG = logging.getLogger(__name__)
INSTRUCTION = "Given a query, retrieval relevant passage."
QUERY = "Which planet is called the Red Planet?"
# One that answers and one that doesn't: what stands before both numbers is the model's form, not prose about one.
DOCUMENTS = (
    "Mars is often called the Red Planet, because iron oxide on its surface makes it look red.",
    "A sourdough starter is fed with flour and water each day until it rises and smells sour.",
)
# The longest answer that can be recognised, with the tokens around it.
WRITTEN_TOKENS = 48
HELP = (
    "Use a model that was trained for this prompt, or another prompt_file. If you know that the model answers as the "
    "prompt asks, or only try things out, set check_answer = false: then answers are read behind {before!r} whatever "
    "the model would write."
)


async def follow_model(prompt: ErankPrompt, engine: TokenEngine, *, max_think_tokens: int) -> ErankPrompt:
    """The prompt whose answer is read where the model writes it.

    The model thinks about two documents, at most `max_think_tokens` about each, and then writes on. Raises
    WorkerStartError, with what the model wrote, where no answer is recognised, or where the two have different forms.
    """
    built = prompt.build(instruction=INSTRUCTION, query=QUERY, texts=DOCUMENTS)
    try:
        answers = await all_of(
            [_answer(prompt, engine, one.chunks[0], max_think_tokens=max_think_tokens) for one in built]
        )
    except (RefusedError, EngineDeadError) as error:
        raise WorkerStartError(f"The model could not be asked how it writes its answer: {error}.") from error
    seen = " and ".join(repr(text) for text, _ in answers)
    if any(cut for _, cut in answers):
        seen += f" (its thinking was stopped after max_think_tokens = {max_think_tokens})"
    try:
        following = _follow(prompt, [text for text, _ in answers])
    except UnfitTokenizerError as error:
        raise WorkerStartError(
            f"The model was asked about two documents, and behind its thinking it wrote {seen}: {error}. "
            f"{HELP.format(before=TAGGED.before)}"
        ) from error
    if following.answer == prompt.answer:
        LOG.info("the model writes its answer as the prompt asks for it: %s", seen)
    else:
        LOG.warning("behind its thinking the model writes %s, so answers are read as %r", seen, following.answer)
    return following


def _follow(prompt: ErankPrompt, texts: Sequence[str]) -> ErankPrompt:
    """The prompt whose answer is read as in all these texts. Raises UnfitTokenizerError where there is none."""
    forms = [form for form in map(learn_form, texts) if form is not None]
    if len(forms) < len(texts):
        raise UnfitTokenizerError("that is not one whole number from 0 to 10 in a form that can be read")
    first, *others = (prompt.following(form) for form in forms)
    if any((first.answer_ids, first.labels) != (other.answer_ids, other.labels) for other in others):
        raise UnfitTokenizerError("these are two forms, and all answers are read in one")
    return first


async def _answer(
    prompt: ErankPrompt, engine: TokenEngine, ids: Sequence[int], *, max_think_tokens: int
) -> tuple[str, bool]:
    """What the model writes once it has thought, special tokens included, and whether its thinking was cut for that."""
    begun = (*ids, *prompt.think_ids)
    thought = await _write(prompt, engine, begun, max_tokens=max_think_tokens)
    end = prompt.end_of_thinking(thought)
    closed = (*begun, *thought[:end], *prompt.think_end_ids)
    written = await _write(prompt, engine, closed, max_tokens=WRITTEN_TOKENS)
    return prompt.text(written, with_special=True), end is None


async def _write(prompt: ErankPrompt, engine: TokenEngine, ids: Sequence[int], *, max_tokens: int) -> list[int]:
    """What the model writes next, up to the first token that ends its thinking or its turn, and that token."""
    written: list[int] = []
    deltas = engine.think(ids, max_tokens=max_tokens, stop_ids=prompt.stop_ids, priority=0)
    async with aclosing(cast("AsyncGenerator[Delta, None]", deltas)):
        async for delta in deltas:
            seen = len(written)
            written += delta.token_ids
            if prompt.end_of_thinking(written, seen) is not None:
                break
    return written
