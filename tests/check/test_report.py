"""What was found on an engine, as lines: nothing in a document changes a terminal, and long lists are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.check.report import EngineFindings, FieldDoubt, RuleFindings, Sample, lines_of

TEXTLESS = Sample(index="i", id="2", text="", missing=("title",))
SAMPLE = Sample(index="i", id="1", text="words", missing=())


def said_of(rule: RuleFindings) -> list[str]:
    """The lines about a rule."""
    return list(lines_of(EngineFindings(url="http://es", version="opensearch 2", rules=(rule,))))[1:]


@given(st.text(), st.text())
def test_a_document_is_one_line_that_can_be_printed(text: str, identifier: str) -> None:
    """Whatever a document holds is one line without control characters."""
    sample = Sample(index="i", id=identifier, text=text, missing=("a",))
    for line in said_of(RuleFindings(rule="r", names=("i",), samples=(sample,))):
        assert line.isprintable()


def test_a_long_text_is_cut() -> None:
    """The first 200 characters are shown, and how many there are."""
    sample = Sample(index="i", id="1", text="a" * 1234, missing=("b", "c"))
    [_, line] = said_of(RuleFindings(rule="r", names=("i",), samples=(sample,)))
    assert line == f'    document 1 of i: "{"a" * 200}"... (1,234 characters); no text in b, c'


def test_many_names_are_counted() -> None:
    """Ten names are shown, and the rest is counted."""
    names = tuple(f"n{number}" for number in range(12))
    [line] = said_of(RuleFindings(rule="r", names=names, samples=()))[:1]
    assert line == f"  rule r: {', '.join(names[:10])} and 2 more"
    doubt = FieldDoubt(field="f", doubt="is odd", indices=names, everywhere=False)
    assert said_of(RuleFindings(rule="r", names=names, fields=(doubt,)))[1].endswith("n9 and 2 more)")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (RuleFindings(rule="r", names=("i",), samples=(TEXTLESS, SAMPLE)), ""),
        (RuleFindings(rule="r", elsewhere=("eu:x",)), ""),
        (RuleFindings(rule="r"), "no index, alias or data stream matches it"),
        (RuleFindings(rule="r", taken=(("i", "other"),)), "no index falls under it"),
        (RuleFindings(rule="r", names=("i",)), "a search found no document"),
        (RuleFindings(rule="r", names=("i",), samples=(TEXTLESS,)), "none of these documents has text for it"),
        (RuleFindings(rule="r", refusals=("a search: 403: no",)), "the engine shows no document of it to this login"),
    ],
)
def test_a_rule_that_can_rerank_nothing_is_a_problem(rule: RuleFindings, problem: str) -> None:
    """A rule without an index, a document or any text is a problem; one that was not looked up is not."""
    findings = EngineFindings(url="http://es", version="opensearch 2", rules=(rule,))
    assert rule.problem.startswith(problem) if problem else rule.problem == ""
    assert findings.usable is not bool(problem)
    assert any("nothing can be reranked" in line for line in lines_of(findings)) is bool(problem)
