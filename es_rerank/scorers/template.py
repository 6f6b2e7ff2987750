"""The prompt of an LLM as a template: one text with a place each for instruction, query and document. Pure.

The default is ERank's own prompt (Cai et al., 2025, arXiv 2509.00520, figure 5). Proxies need the text for a scorer's
fingerprint, and workers to ask the model, so it is kept here, where both may look.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

PLACES = ("instruction", "query", "document")
SEAM = re.compile(r"\n(?!\s)")
BRACES = re.compile(r"\{([^{}\n]*)\}|[{}]")
DEFAULT_TEXT = """\
Given a query and a document, please give a relevance score of 0 to 10.
The goal or relevance definition is: {instruction}

Here is the query:
{query}

Here is the document:
{document}

After thinking, directly choose a relevance score from [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10].
- 0 represents completely not related.
- 10 means perfectly related.

Desired output format:
<think>put your thinking here</think><answer>Only allows an integer here</answer>

Your output:"""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A prompt with the places {instruction}, {query} and {document} in braces, each once, the document behind both.

    The document comes last because all prompts of a query are the same up to there, and are computed once. For that a
    line end has to stand before it, see `find_seam`. A brace has no other use, and line ends are single line feeds.
    Raises ValueError, with the line, where that does not hold.
    """

    text: str

    def __post_init__(self) -> None:
        if "\r" in self.text:
            line = self._line_of(self.text.index("\r"))
            raise ValueError(f"line {line}: has a carriage return; line ends have to be single line feeds")
        lines: dict[str, int] = {}
        for brace in BRACES.finditer(self.text):
            name, line = brace[1], self._line_of(brace.start())
            if name not in PLACES:
                raise ValueError(
                    f"line {line}: {brace[0]!r} is not a place; braces are for {{instruction}}, {{query}} and "
                    "{document} alone"
                )
            if name in lines:
                raise ValueError(
                    f"line {line}: {brace[0]} stands in line {lines[name]} already; each place is needed once"
                )
            lines[name] = line
        missing = [f"{{{name}}}" for name in PLACES if name not in lines]
        if missing:
            raise ValueError(f"{' and '.join(missing)} missing; each place is needed once")
        if list(lines)[-1] != "document":
            raise ValueError(
                f"line {lines['document']}: {{document}} has to stand behind {{instruction}} and {{query}}, so that "
                "all prompts of a query are the same up to the document"
            )
        if find_seam(self.pieces[4]) is None:
            raise ValueError(
                f"line {lines['document']}: a line end, and no blank behind it, has to stand between the place before "
                "{document} and {document}, so that all prompts of a query are the same up to the document"
            )

    @property
    def pieces(self) -> tuple[str, ...]:
        """Seven texts: what is before, between and behind the places, and between these the names of the places."""
        return tuple(re.split(r"\{(\w+)\}", self.text))

    @property
    def sha256(self) -> str:
        """The hash of the text, for fingerprints."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def _line_of(self, position: int) -> int:
        return self.text.count("\n", 0, position) + 1


def find_seam(text: str) -> int | None:
    """Where a text can be cut so that no tokenizer joins a token across: behind its last line end with no blank behind.

    Tokenizers join a line end to what is before it, or to more blanks, never to a word or a sign behind it.
    """
    ends = [match.end() for match in SEAM.finditer(text)]
    return ends[-1] if ends else None


DEFAULT_TEMPLATE = PromptTemplate(DEFAULT_TEXT)
