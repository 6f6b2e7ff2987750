"""ERank's prompt as token ids (arXiv 2509.00520, figure 5): the same for all documents of a query up to the document.

Pure, except for the tokenizer. Users' text is tokenised without the model's added tokens, so that no text can end its
own turn or open a tag. The pieces meet at places that no tokenizer joins, so that together they are the ids of the
whole text.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = (
    "Given a query and a document, please give a relevance score of 0 to 10.\n"
    "The goal or relevance definition is: {instruction}\n\n"
    "Here is the query:\n{query}\n\n"
    "Here is the document:\n"
)
# What joins a document to the rest. Tokenizers join line ends to the text before them, never to the word after them.
GAP = "\n\n"
TAIL_WORD = "After"
TAIL = (
    TAIL_WORD + " thinking, directly choose a relevance score from [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10].\n"
    "- 0 represents completely not related\n"
    "- 10 means perfectly related.\n\n"
    "Desired output format:\n"
    "<think>put your thinking here</think><answer>Only allows an integer here</answer>\n\n"
    "Your output:"
)
THINK, THINK_END, ANSWER, ANSWER_END = "<think>", "</think>", "<answer>", "</answer>"
PROMPT_SHA256 = hashlib.sha256(repr((HEAD, GAP, TAIL, THINK, THINK_END, ANSWER, ANSWER_END)).encode()).hexdigest()

MAX_INSTRUCTION_TOKENS = 512
# Tokens of the template, the chat frame, the tags and the answer, and those that a cut text may gain.
FRAME_TOKENS = 256
# A tokenizer reads a whole text before it can be cut. No real text has more characters per token than this.
CHARACTERS_PER_TOKEN = 64
PLACE = "\N{OBJECT REPLACEMENT CHARACTER}"
ANSWERS = 10


class UnfitTokenizerError(ValueError):
    """The tokenizer or chat template can't carry the prompt; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The tokens by which an answer is read: those of the digits 0 to 9, and the one that closes the answer tag."""

    digits: tuple[int, ...]
    close: int

    @property
    def all(self) -> tuple[int, ...]:
        """Digits first, in order, then the closing one."""
        return (*self.digits, self.close)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentPrompt:
    """The prompts of one document: one for each of its chunks, none where the document has no text.

    `tail_tokens` is parallel to `chunks`: how many tokens of the chunk no other document of the query shares.
    `truncated` is True where a part of query, instruction or document is in no chunk.
    """

    chunks: tuple[tuple[int, ...], ...]
    tail_tokens: tuple[int, ...]
    truncated: bool


class ErankPrompt:
    """Makes prompts for one model.

    `tokenizer_json` is the model's tokenizer file. `frame` is the text that its chat template gives for one user
    message whose content is PLACE, up to where the model begins to speak. Raises UnfitTokenizerError where the
    tokenizer lacks what the method needs.
    """

    def __init__(
        self, tokenizer_json: str, frame: str, *, max_query_tokens: int, max_document_tokens: int, max_chunks: int = 1
    ) -> None:
        self._full = Tokenizer.from_str(tokenizer_json)
        self._plain = Tokenizer.from_str(json.dumps({**json.loads(tokenizer_json), "added_tokens": []}))
        for tokenizer in (self._full, self._plain):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self._max_query_tokens = max_query_tokens
        self._max_document_tokens = max_document_tokens
        self._max_chunks = max_chunks
        before, place, behind = frame.partition(PLACE)
        if not place or PLACE in behind:
            raise UnfitTokenizerError("the chat template must show the content of a user message once, as it is")
        self._frame_head = self._ids(before)
        self._tail = self._ids(TAIL + behind)
        self._tail_word = len(self._plain.encode(TAIL_WORD, add_special_tokens=False).ids)
        self.labels = self._find_labels()
        self.think_ids = self._ids(THINK)
        self.answer_ids = self._ids(THINK_END + ANSWER)
        self.direct_ids = self._ids(THINK + THINK_END + ANSWER)
        self._end_ids = frozenset(
            int(token["id"]) for token in json.loads(tokenizer_json)["added_tokens"] if token.get("special")
        )
        close = self._ids(THINK_END)
        self._closes_by_token = len(close) == 1
        if self._closes_by_token:
            self._end_ids |= {close[0]}

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The tokens at which thinking is over: the closing tag, where it is one token, and every special token."""
        return tuple(sorted(self._end_ids))

    def build(self, *, instruction: str, query: str, texts: Sequence[str]) -> list[DocumentPrompt]:
        """The prompts for a query's documents, parallel to `texts`. Each ends where the model begins to speak."""
        goal, cut_goal = self._cut(_clean(instruction), MAX_INSTRUCTION_TOKENS)
        question, cut_query = self._cut(_clean(query), self._max_query_tokens)
        head = self._frame_head + self._plain_ids(HEAD.format(instruction=goal, query=question))
        longest = self._max_document_tokens * self._max_chunks * CHARACTERS_PER_TOKEN
        bodies = [_clean(text[:longest]) for text in texts]
        encodings = self._plain.encode_batch_fast([body + GAP + TAIL_WORD for body in bodies], add_special_tokens=False)
        prompts = []
        for text, body, encoding in zip(texts, bodies, encodings, strict=True):
            if not body:
                prompts.append(DocumentPrompt(chunks=(), tail_tokens=(), truncated=False))
                continue
            ids = encoding.ids[: len(encoding.ids) - self._tail_word]
            pieces, cut = ([ids], False) if len(ids) <= self._max_document_tokens else self._split(body)
            ends = [tuple(piece) + self._tail for piece in pieces]
            prompts.append(
                DocumentPrompt(
                    chunks=tuple(head + end for end in ends),
                    tail_tokens=tuple(len(end) for end in ends),
                    truncated=cut_goal or cut_query or cut or len(text) > longest,
                )
            )
        return prompts

    def end_of_thinking(self, ids: Sequence[int], seen: int = 0) -> int | None:
        """How many tokens come before the end of the thinking; None while it goes on.

        The first `seen` tokens are known not to end it.
        """
        for place in range(seen, len(ids)):
            if ids[place] in self._end_ids:
                return place
        if self._closes_by_token:
            return None
        # A tag of several tokens may be joined to what is before it, so it is looked for in the text.
        at = self.text(ids).find(THINK_END)
        if at < 0:
            return None
        return max(place for place in range(len(ids) + 1) if len(self.text(ids[:place])) <= at)

    def text(self, ids: Sequence[int]) -> str:
        """The text of generated tokens."""
        return str(self._full.decode(list(ids), skip_special_tokens=True))

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._full.encode(text, add_special_tokens=False).ids)

    def _plain_ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._plain.encode(text, add_special_tokens=False).ids)

    def _cut(self, text: str, max_tokens: int) -> tuple[str, bool]:
        """The text, cut after the character in which its last allowed token ends, and whether that cut anything."""
        kept = text[: max_tokens * CHARACTERS_PER_TOKEN]
        encoding = self._plain.encode(kept, add_special_tokens=False)
        if len(encoding.ids) > max_tokens:
            kept = kept[: encoding.offsets[max_tokens - 1][1]]
        return kept, len(kept) < len(text)

    def _split(self, body: str) -> tuple[list[Sequence[int]], bool]:
        """A long document's pieces, as many as are allowed, and whether something is left over."""
        ends = [end for _, end in self._plain.encode(body, add_special_tokens=False).offsets]
        pieces: list[Sequence[int]] = []
        start = 0
        step = self._max_document_tokens
        for last in range(step - 1, len(ends) + step, step):
            end = ends[min(last, len(ends) - 1)]
            if end > start and len(pieces) < self._max_chunks:
                piece = body[start:end].strip()
                start = end
                if piece:
                    ids = self._plain_ids(piece + GAP + TAIL_WORD)
                    pieces.append(ids[: len(ids) - self._tail_word])
        return pieces, start < len(body)

    def _find_labels(self) -> Labels:
        answer = self._ids(ANSWER)
        digits: list[int] = []
        for digit in range(ANSWERS):
            ids = self._ids(f"{ANSWER}{digit}")
            if ids[:-1] != answer:
                raise UnfitTokenizerError(f"the digit {digit} behind {ANSWER} is not one token of its own")
            digits.append(ids[-1])
        if self._ids(f"{ANSWER}10") != (*answer, digits[1], digits[0]):
            raise UnfitTokenizerError("10 must be the tokens of 1 and 0")
        closed = self._ids(f"{ANSWER}1{ANSWER_END}")
        if closed[: len(answer) + 1] != (*answer, digits[1]) or len(closed) < len(answer) + 2:
            raise UnfitTokenizerError(f"{ANSWER_END} is joined to the digit before it")
        return Labels(digits=tuple(digits), close=closed[len(answer) + 1])


def _clean(text: str) -> str:
    """The text as tokenizers take it: without blanks around it, and with a question mark for half a surrogate pair."""
    return text.encode("utf-8", "replace").decode().strip()
