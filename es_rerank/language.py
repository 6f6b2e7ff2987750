"""Whether a window is in the language that a scorer reads. Pure.

A model that was trained on English does harm to other languages: on six collections in Arabic, Chinese, German, Russian
and Spanish, reranking by MiniLM lost 0.03 to 0.38 nDCG@10. What tells English from the rest is how many of the words
are English function words (stop words).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Language = Literal["en"]
LANGUAGE_NAMES: dict[Language, str] = {"en": "English"}

# How much of a window is looked at: enough to tell, and little enough to be read for every search.
HITS = 10
CHARACTERS = 500
# Measured on 35 judged collections: English prose and code have a share of 0.11 and more, other languages 0.03 at most,
# English lists of products 0 to 0.08. Any threshold from 0.03 to 0.10 gave the same nDCG@10.
LEAST_SHARE = 0.05
# Fewer words can't tell. Of twenty words in a row of English prose, none is a stop word in one case of a hundred; of
# ten words, in three to eight cases.
LEAST_WORDS = 20
WORD = re.compile(r"[^\W\d_]+")
# Letters outside the blocks of Latin script: Basic Latin, Latin-1, Extended-A and -B, IPA and Extended Additional.
FOREIGN_LETTER = re.compile(r"[^\W\d_A-Za-z\u00aa\u00ba\u00c0-\u02af\u1e00-\u1eff]")
# Function words of English that are not common words of another language in Latin script, as `in`, `is` and `was`
# are in Dutch, `for` in Danish, `to` and `most` in Polish, and `any` in Catalan.
ENGLISH = frozenset(
    {
        "about", "after", "also", "and", "another", "are", "because", "before", "being", "between", "both",
        "but", "could", "did", "does", "during", "each", "every", "few", "from", "have", "having", "his", "how",
        "if", "into", "its", "itself", "much", "must", "myself", "nor", "not", "of", "only", "other", "our",
        "out", "same", "she", "should", "since", "some", "such", "than", "that", "the", "their", "them", "then",
        "there", "these", "they", "this", "those", "through", "too", "until", "upon", "very", "were", "what",
        "when", "where", "whether", "which", "while", "who", "whom", "whose", "why", "with", "within",
        "without", "would", "you", "your",
    }
)  # fmt: skip
STOP_WORDS: dict[Language, frozenset[str]] = {"en": ENGLISH}


def may_be_in(language: Language, query: str, texts: Sequence[str | None]) -> bool:
    """Whether a query and the texts of its hits, in the engine's order, may be in a language.

    Only the first 500 characters of the query and of the first 10 texts count; None is a hit without text. False needs
    evidence: most of the letters are not of Latin script, or there are at least 20 words and fewer than one in twenty
    is a stop word of the language. With fewer words it is True: so little text is a window of one or two hits, or of
    names.
    """
    read = "\n".join([query[:CHARACTERS], *(text[:CHARACTERS] for text in texts[:HITS] if text)]).lower()
    words = WORD.findall(read)
    if 2 * len(FOREIGN_LETTER.findall(read)) > sum(map(len, words)):
        return False
    stop_words = STOP_WORDS[language]
    return len(words) < LEAST_WORDS or sum(word in stop_words for word in words) >= LEAST_SHARE * len(words)
