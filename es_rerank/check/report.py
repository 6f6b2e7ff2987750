"""What `check-config --engine` found, and how it is said. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHOWN_CHARACTERS = 200
SHOWN_NAMES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDoubt:
    """What speaks against a rule's field in some indices: in all that were looked into, where it is `everywhere`."""

    field: str
    doubt: str
    indices: tuple[str, ...]
    everywhere: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A document: the text that would be scored, '' for none, and the rule's fields without text in it."""

    index: str
    id: str
    text: str
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFindings:
    """What was found for a rule.

    `names` are the indices, aliases and data streams that fall under the rule; `taken` those that match its patterns
    but fall under an earlier rule, each with that rule's name. `elsewhere` are patterns that were not looked up, for
    other clusters and date math. `refusals` say what the engine refused.
    """

    rule: str
    names: tuple[str, ...] = ()
    taken: tuple[tuple[str, str], ...] = ()
    elsewhere: tuple[str, ...] = ()
    fields: tuple[FieldDoubt, ...] = ()
    samples: tuple[Sample, ...] = ()
    refusals: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Why the rule can rerank nothing here; '' where it can, or where nothing of it could be looked up."""
        if any(sample.text for sample in self.samples):
            return ""
        if self.samples:
            return "none of these documents has text for it: look at the rule's fields"
        if self.names:
            return "a search found no document"
        if self.refusals:
            return "the engine shows no document of it to this login"
        if self.elsewhere:
            return ""
        return "no index falls under it" if self.taken else "no index, alias or data stream matches it"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFindings:
    """What was found on an engine: its URL, product and version, and each rule in order."""

    url: str
    version: str
    rules: tuple[RuleFindings, ...]

    @property
    def usable(self) -> bool:
        """Whether every rule can rerank something, as far as it could be looked up."""
        return not any(rule.problem for rule in self.rules)


def lines_of(findings: EngineFindings) -> Iterator[str]:
    """The findings as lines, for people."""
    yield f"engine {findings.url}: {findings.version}"
    for rule in findings.rules:
        nothing = "its names are not known" if rule.refusals else "nothing was found"
        yield f"  rule {rule.rule}: {_listed(rule.names) or nothing}"
        for name, other in rule.taken[:SHOWN_NAMES]:
            yield f"    {name}: matches, but the rule {other!r} before it takes it"
        for pattern in rule.elsewhere:
            yield f"    {pattern}: not looked up: it is for other clusters, or date math"
        for refusal in rule.refusals:
            yield f"    the engine refused {_printable(refusal)}"
        for doubt in rule.fields:
            where = "" if doubt.everywhere else f" (in {_listed(doubt.indices)})"
            yield f"    field {doubt.field}: {doubt.doubt}{where}"
        for sample in rule.samples:
            yield f"    document {_printable(sample.id)} of {sample.index}: {_shown_text(sample)}"
        if rule.problem:
            yield f"    nothing can be reranked: {rule.problem}"


def _shown_text(sample: Sample) -> str:
    missing = f"no text in {', '.join(sample.missing)}" if sample.missing else ""
    if not sample.text:
        return missing or "no text"
    text = f'"{_printable(sample.text[:SHOWN_CHARACTERS])}"'
    if len(sample.text) > SHOWN_CHARACTERS:
        text += f"... ({len(sample.text):,} characters)"
    return f"{text}; {missing}" if missing else text


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _printable(text: str) -> str:
    """The text on one line, without characters that would change the terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
