"""What an event tells of a search: which words are those of its user, and what its answer adds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from es_rerank.proxy.events.searched import MAX_QUERY_CHARACTERS, Searched, searched_of
from es_rerank.proxy.search.control import take_controls
from tests.proxy.events.samples import searched_with
from tests.proxy.search.calls import call_of, decision_of

SEARCH = {"bool": {"must": [{"match": {"genre": "drama"}}, {"match": {"text": "moon"}}]}}


def begun(ext: Any, question: str = "drama moon") -> Searched:
    """A search with this `ext`, before the types of its fields are known."""
    decision = decision_of("text")
    decision = replace(decision, scoring=replace(decision.scoring, question=question))
    asked, call = take_controls(call_of({"query": SEARCH, "ext": ext}))
    return searched_of(call, asked, decision, rules_version="v1", new_id="new")


def test_the_users_own_words_come_before_the_question() -> None:
    """What `ext.ubi` says was asked is the query, else the question that is scored; of both, the beginning is kept."""
    assert begun({"ubi": {"user_query": "big kettle"}}).user_query == "big kettle"
    assert begun({"ubi": {"user_query": ""}}).user_query == "drama moon"
    assert begun({"ubi": {"user_query": "x" * 5000}}).user_query == "x" * MAX_QUERY_CHARACTERS
    assert begun({}, "x" * 5000).user_query == "x" * MAX_QUERY_CHARACTERS


def test_the_answer_has_the_last_word() -> None:
    """The decision by which the hits were ranked says the question, and an id that the plug-in answered is the id."""
    ranked = searched_with()
    assert ranked.found is not None
    assert ranked.verdict is not None
    found = replace(ranked.found, top={"ext": msgspec.Raw(b'{"ubi":{"query_id":"theirs"}}')})
    early = begun({})
    late = early.with_hits(
        found, ranked.verdict, replace(early.decision, scoring=replace(early.decision.scoring, question="moon"))
    )
    assert (late.user_query, late.names.query_id) == ("moon", "theirs")
    assert (late.found, late.verdict) == (found, ranked.verdict)
