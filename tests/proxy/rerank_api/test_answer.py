"""Which answers are whole, and what is said of them."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from es_rerank.errors import CallerError
from es_rerank.judgment import Judgment
from es_rerank.proxy.rerank_api.answer import UNAVAILABLE, check_whole, is_rerank, scoring_of, warnings_of
from es_rerank.proxy.scoring.ask import Stage, WindowScores
from es_rerank.reasons import Gap, Reason
from es_rerank.records import Request
from es_rerank.settings import Settings
from tests.proxy.rerank_api.api import PARTS, TABLE, api_of, read

GOOD = Judgment(rank_score=7)
CUT = Judgment(rank_score=7, truncated=True)


def scores_of(*judgments: Judgment | None, reason: Reason | None = None) -> WindowScores:
    """What scoring gave for two documents."""
    gaps = (None,) * len(judgments)
    return WindowScores(judgments=judgments, keys=gaps, from_cache=(False,) * len(gaps), missing_text=0, reason=reason)


def asked(*documents: str, path: str = "/v2/rerank", **more: Any) -> Any:
    """A request with these documents."""
    return read(path, {"query": "what", "documents": [*documents], **more})


@pytest.mark.parametrize(
    ("method", "path", "ours"),
    [
        ("POST", b"/v1/rerank", True), ("POST", b"/v2/rerank", True), ("POST", b"/rerank", True),
        ("POST", b"/rerank?x=1", True), ("GET", b"/rerank", False), ("PUT", b"/rerank", False),
        ("POST", b"/v3/rerank", False), ("POST", b"/rerank/", False), ("POST", b"/films/_search", False),
    ],
)  # fmt: skip
def test_three_paths_are_the_apis(method: str, path: bytes, *, ours: bool) -> None:
    """POST on the three paths, and nothing else: `GET /rerank` is an index of the engine's."""
    assert is_rerank(Request(method=method, target=path, headers=())) == ours


@pytest.mark.parametrize("reason", get_args(Gap))
def test_a_gap_is_an_error_after_which_asking_again_helps(reason: Gap) -> None:
    """Overload is 429, too much text 413, and all else 503; the text says how many scores are missing."""
    with pytest.raises(CallerError, match=r"\(2 of 2 documents have no score\)") as raised:
        check_whole(asked("a", "b"), scores_of(None, None, reason=reason))
    assert raised.value.status == {"overloaded": 429, "claim_too_large": 413}.get(reason, 503)
    if reason != "document_failed":
        with pytest.raises(CallerError):
            check_whole(asked("a", "b"), scores_of(GOOD, None, reason=reason))


def test_every_reason_with_words_of_its_own_exists() -> None:
    """No word of the table is outside the list of reasons."""
    assert set(UNAVAILABLE) <= set(get_args(Gap))


def test_documents_that_cant_be_scored_spoil_no_answer() -> None:
    """A document without text, or one that the scorer fails on alone, has no score, and a warning says so."""
    request = asked("a", "")
    scores = scores_of(GOOD, None)
    check_whole(request, scores)
    assert warnings_of(request, scores)[0].startswith("1 documents have no score, are last and have 0")
    check_whole(asked("a", "b"), scores_of(GOOD, None, reason="document_failed"))
    check_whole(asked("", ""), scores_of(None, None, reason="missing_text"))


def test_a_text_that_was_cut_is_refused_only_where_that_is_asked() -> None:
    """`truncation: false` makes a cut document a 413; else a warning says how many there were."""
    request = asked("a", "b")
    check_whole(request, scores_of(GOOD, CUT))
    assert "1 scores are of a query or document that was cut" in warnings_of(request, scores_of(GOOD, CUT))[0]
    strict = asked("a", "b", path="/v1/rerank", truncation=False)
    check_whole(strict, scores_of(GOOD, GOOD))
    with pytest.raises(CallerError, match="document 1, is longer than the model reads") as raised:
        check_whole(strict, scores_of(GOOD, CUT))
    assert raised.value.status == 413


def test_thinking_that_the_deadline_ended_is_told() -> None:
    """A judgment that the deadline cut counts, and a warning says how many there are."""
    request = asked("a", model="thinker")
    scores = scores_of(Judgment(rank_score=1, cut="deadline"), reason="deadline")
    check_whole(request, scores)
    assert warnings_of(request, scores) == ("1 scores were made before the model's thinking ended: the deadline came",)


def test_a_language_that_the_model_does_not_read_is_told() -> None:
    """The documents are scored all the same, since the caller chose the model; a warning says what that is worth."""
    german = "Der Hund läuft durch den Wald und sucht nach einem Stock, den er nicht finden kann, weil es dunkel ist."
    [warning] = warnings_of(asked(german, german), scores_of(GOOD, GOOD))
    assert warning.isascii()
    assert "reads English" in warning
    assert warnings_of(asked(german, german, model="thinker"), scores_of(GOOD, GOOD)) == ()


def test_a_search_under_a_rule_that_says_the_same_shares_the_scores() -> None:
    """The scoring has what the key of a cached score has: the fingerprint, the instruction, the thinking."""
    api = api_of()
    llm, minilm = api.models["thinker"], api.models["rerank-v3.5"]
    thinking = scoring_of(llm, "what", api)
    assert (thinking.instruction, thinking.stages) == (
        "Given a query, retrieval relevant passage.",
        (Stage(budget_tokens=512),),
    )
    plain = scoring_of(minilm, "what", api)
    assert (plain.fingerprint, plain.instruction, plain.stages) == (minilm.fingerprint, "", (Stage(budget_tokens=0),))
    direct = api_of(mode="direct")
    assert scoring_of(direct.models["thinker"], "what", direct).stages == (Stage(budget_tokens=0),)
    short = api_of(budget_tokens=64)
    assert scoring_of(short.models["thinker"], "what", short).stages == (Stage(budget_tokens=64),)


def test_the_settings_show_no_key() -> None:
    """Printed, logged or dumped, neither the settings nor what is made of them have a key."""
    settings = Settings.model_validate({**PARTS, "rerank_api": TABLE})
    assert TABLE["keys"][0] not in f"{settings!r} {settings.model_dump_json()} {settings.bound_rerank_api()!r}"
