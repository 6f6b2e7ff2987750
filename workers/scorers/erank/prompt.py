"""A template's prompt as token ids: the same for all documents of a query up to the document.

Pure, except for the tokenizer. Users' text is tokenised without the model's added tokens, so that no text can end its
own turn or open a tag. The template's own text keeps them: tokenizers split a text at its added tokens first, and what
stands between two of them is tokenised here in one go, users' text included. So the pieces are the ids of the whole
text. Only one seam is inside such a stretch, the line end before the document, behind which the documents part.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from es_rerank.scorers.template import DEFAULT_TEMPLATE, find_seam
from workers.scorers.erank.form import TAGGED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from es_rerank.scorers.template import PromptTemplate
    from workers.scorers.erank.form import AnswerForm

THINK, THINK_END = "<think>", "</think>"

MAX_INSTRUCTION_TOKENS = 512
# Tokens of the template, the chat frame, the tags and the answer, and those that a cut text may gain.
FRAME_TOKENS = 256
# Those among them that are not the template's and the frame's.
ANSWER_TOKENS = 96
# A tokenizer reads a whole text before it can be cut. No real text has more characters per token than this.
CHARACTERS_PER_TOKEN = 64
# So many tokens a document may lose where it is joined to the text around it.
JOINT_TOKENS = 8
# Stands for the beginning of a document where what comes before it is tokenised.
LETTER = "A"
PLACE = "\N{OBJECT REPLACEMENT CHARACTER}"
DIGITS = 10
# Texts whose ends tokenizers treat differently: letters, digits, punctuation of two kinds, other scripts.
SAMPLES = ("a ship", "10", "(a)", "So:", "\N{CJK UNIFIED IDEOGRAPH-6D77}\N{IDEOGRAPHIC FULL STOP}")


Stretch = tuple[str, tuple[int, ...]]
"""A text without added tokens, and the added token behind it, if any."""


class UnfitTokenizerError(ValueError):
    """The tokenizer or chat template can't carry the prompt or its answer; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The tokens by which an answer is read: those of the digits 0 to 9, and the one that ends the answer."""

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
    message whose content is PLACE, up to where the model begins to speak. The answer is read as ERank's prompt asks for
    it, see `following`. Raises UnfitTokenizerError where the tokenizer lacks what the method needs.
    """

    def __init__(
        self,
        tokenizer_json: str,
        frame: str,
        *,
        template: PromptTemplate = DEFAULT_TEMPLATE,
        max_query_tokens: int,
        max_document_tokens: int,
        max_chunks: int = 1,
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
        self._added_ids = frozenset(self._full.get_added_tokens_decoder())
        self._letter_tokens = len(self._plain_ids(LETTER))
        top, first, middle, _, joint, _, bottom = template.pieces
        *shared, (last, _) = self._stretches(joint)
        seam = find_seam(last) or 0  # none behind an added token, where every tokenizer splits
        self._first = first
        self._head = (self._stretches(before + top), self._stretches(middle), [*shared, (last[:seam], ())])
        self._lead = last[seam:]
        (self._bottom, closing), *tail = self._stretches(bottom + behind)
        self._tail = self._encode([("", closing), *tail])
        self._frame_tokens = len(self._plain_ids(self._lead + self._bottom))
        self.fixed_tokens = len(self._head_ids("", "")) + self._frame_tokens + len(self._tail)
        self.think_ids = self._ids(THINK)
        self._end_ids = frozenset(
            int(token["id"]) for token in json.loads(tokenizer_json)["added_tokens"] if token.get("special")
        )
        self.think_end_ids = self._ids(THINK_END)
        self._closes_by_token = len(self.think_end_ids) == 1
        if self._closes_by_token:
            self._end_ids |= {self.think_end_ids[0]}
        self.labels, self.answer_ids, self.direct_ids = self._find_labels(TAGGED)
        self._check_pieces(frame, template)

    def following(self, form: AnswerForm) -> ErankPrompt:
        """The same prompt, whose answer is read where the model writes it. Raises UnfitTokenizerError."""
        other = copy.copy(self)
        other.labels, other.answer_ids, other.direct_ids = self._find_labels(form)
        return other

    @property
    def answer(self) -> str:
        """How answers are read, as the text of one that is 0: closed thinking, what is before the number, its end."""
        return self.text((*self.answer_ids, self.labels.digits[0], self.labels.close), with_special=True)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The tokens at which thinking is over: the closing tag, where it is one token, and every special token."""
        return tuple(sorted(self._end_ids))

    def build(self, *, instruction: str, query: str, texts: Sequence[str]) -> list[DocumentPrompt]:
        """The prompts for a query's documents, parallel to `texts`. Each ends where the model begins to speak."""
        goal, cut_goal = self._cut(_clean(instruction), MAX_INSTRUCTION_TOKENS)
        question, cut_query = self._cut(_clean(query), self._max_query_tokens)
        head = self._head_ids(goal, question)
        longest = self._max_document_tokens * self._max_chunks * CHARACTERS_PER_TOKEN
        bodies = [_clean(text[:longest]) for text in texts]
        encodings = self._plain.encode_batch_fast([self._framed(body) for body in bodies], add_special_tokens=False)
        prompts = []
        for text, body, encoding in zip(texts, bodies, encodings, strict=True):
            if not body:
                prompts.append(DocumentPrompt(chunks=(), tail_tokens=(), truncated=False))
                continue
            pieces: list[Sequence[int]] = [encoding.ids]
            cut = False
            if len(encoding.ids) - self._frame_tokens > self._max_document_tokens - JOINT_TOKENS:
                pieces, cut = self._split(body)
            ends = [(*piece, *self._tail) for piece in pieces]
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

    def text(self, ids: Sequence[int], *, with_special: bool = False) -> str:
        """The text of generated tokens, with or without that of special tokens such as the end of a turn."""
        return str(self._full.decode(list(ids), skip_special_tokens=not with_special))

    def _head_ids(self, instruction: str, query: str) -> tuple[int, ...]:
        """What all documents of a query share.

        It is tokenised with a letter behind it, as there is one in the whole text: some tokenizers keep the last line
        end of several apart from the others where something follows.
        """
        top, middle, joint = self._head
        first, second = (instruction, query) if self._first == "instruction" else (query, instruction)
        ids = self._encode([*top, (first, ()), *middle, (second, ()), *joint, (LETTER, ())])
        return ids[: len(ids) - self._letter_tokens]

    def _framed(self, body: str) -> str:
        """A document with the template's text around it that is tokenised with it."""
        return self._lead + body + self._bottom

    def _stretches(self, text: str) -> list[Stretch]:
        """A text of the template's, split behind the model's added tokens; the last stretch has none."""
        stretches: list[Stretch] = []
        encoding = self._full.encode(text, add_special_tokens=False)
        at = 0
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._added_ids:
                stretches.append((text[at:start], (token,)))
                at = end
        return [*stretches, (text[at:], ())]

    def _encode(self, stretches: Sequence[Stretch]) -> tuple[int, ...]:
        """The ids of stretches one behind the other; texts without an added token between them are one text."""
        ids: list[int] = []
        text = ""
        for more, token in stretches:
            text += more
            if token:
                ids += (*self._plain_ids(text), *token)
                text = ""
        return (*ids, *self._plain_ids(text))

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
                    pieces.append(self._plain_ids(self._framed(piece)))
        return pieces, start < len(body)

    def _find_labels(self, form: AnswerForm) -> tuple[Labels, tuple[int, ...], tuple[int, ...]]:
        """The labels by which an answer of this form is read, and the ids before it: behind thinking, without any."""
        written = THINK_END + form.before
        answers = [self._ids(f"{written}{digit}") for digit in range(DIGITS)]
        before = answers[0][:-1]
        if any(ids[:-1] != before for ids in answers) or len(set(answers)) < DIGITS:
            raise UnfitTokenizerError(f"not each digit behind {form.before!r} is one token of its own")
        digits = tuple(ids[-1] for ids in answers)
        if self._ids(f"{written}10") != (*before, digits[1], digits[0]):
            raise UnfitTokenizerError("10 must be the tokens of 1 and 0")
        closed = self._ids(f"{written}1{form.after}")
        if closed[: len(before) + 1] != (*before, digits[1]) or len(closed) < len(before) + 2:
            raise UnfitTokenizerError(f"{form.after!r} is joined to the digit before it")
        labels = Labels(digits=digits, close=closed[len(before) + 1])
        return labels, before, self._ids(f"{THINK}{written}0")[:-1]

    def _check_pieces(self, frame: str, template: PromptTemplate) -> None:
        """Raises UnfitTokenizerError where the pieces are not the whole for texts that are not cut."""
        for instruction, query, document in zip(
            SAMPLES, SAMPLES[1:] + SAMPLES[:1], SAMPLES[2:] + SAMPLES[:2], strict=True
        ):
            [built] = self.build(instruction=instruction, query=query, texts=[document])
            value_of = {"instruction": instruction, "query": query, "document": document}
            content = "".join(value_of[piece] if place % 2 else piece for place, piece in enumerate(template.pieces))
            if built.chunks[0] != self._ids(frame.replace(PLACE, content)) and not built.truncated:
                raise UnfitTokenizerError(
                    "its tokenizer joins the prompt's own text to what is put into it, such as the document "
                    f"{document!r}; it may do with another prompt_file"
                )


def _clean(text: str) -> str:
    """The text as tokenizers take it: without blanks around it, and with a question mark for half a surrogate pair."""
    return text.encode("utf-8", "replace").decode().strip()
