"""What a replay is to do: the rule in force, changed for this replay alone, and checked as the file's are."""

from __future__ import annotations

from typing import Any

import pytest

from es_rerank.errors import CallerError
from es_rerank.proxy.replay.plan import ReplayPlan, make_plan, rule_for
from es_rerank.settings import Settings
from es_rerank.tuning.order import check_settings
from es_rerank.tuning.recording import Setting

SETTINGS = Settings.model_validate(
    {
        "upstream": {"urls": ["http://127.0.0.1:1"]},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "scorers": {"big": {"kind": "vllm", "model": "org/model", "revision": "a" * 40}, "e5": {"kind": "e5"}},
        "rules": [
            {"name": "films", "indices": ["films*"], "fields": ["title"], "window": 50, "alpha": 0.4},
            {"name": "books", "indices": ["books"], "template": "{name}", "scorer": "big", "mode": "cascade"},
        ],
    }
)
BOOK = SETTINGS.book()


def plan_of(index: str, overrides: dict[str, Any], window: int | None = None, request: Any = None) -> ReplayPlan:
    """The plan of a replay."""
    return make_plan(
        rule_for(index, overrides, BOOK),
        window=window,
        identity="r1",
        time="2026-11-28T09:00:00Z",
        index=index,
        request=request,
        book=BOOK,
        scorers=SETTINGS.known_scorers(),
    )


def test_without_changes_the_rule_in_force_holds() -> None:
    """The recording's head has its setting, scorer and version."""
    plan = plan_of("films-1", {})
    bound = BOOK.rules[0]
    assert plan.rule == bound.rule
    assert (plan.head.rule, plan.head.rules_version, plan.head.fingerprint) == (
        "films",
        BOOK.version,
        bound.fingerprint,
    )
    assert (plan.head.window, plan.head.mode) == (50, None)
    assert plan.head.setting == Setting(window=50, method="zscore", alpha=0.4)
    assert plan.search("robots")["ext"] == {"es_rerank": {"deadline_s": SETTINGS.limits.max_deadline_s}}
    assert "ext" not in plan.plain_search("robots")


def test_a_change_holds_for_this_replay_alone() -> None:
    """The changed rule is in a book of its own, under a version of its own; the book in force stays as it was."""
    plan = plan_of("films", {"scorer": "e5", "method": "rrf", "alpha": 0, "window": 120})
    assert plan.head.setting == Setting(window=120, method="rrf", alpha=0.0)
    assert (plan.head.scorer, plan.head.rules_version != BOOK.version) == ("e5", True)
    assert BOOK.rules[0].rule.scorer == "minilm"


@pytest.mark.parametrize(
    ("index", "window", "told"),
    [("films", 120, 50), ("films", 20, 20), ("books", 120, 120)],
)
def test_a_window_of_its_own_is_what_is_recorded_and_no_setting_in_force(index: str, window: int, told: int) -> None:
    """The setting keeps the rule's window, if so many hits are recorded and the mode is no cascade."""
    plan = plan_of(index, {}, window)
    assert (plan.head.window, plan.rule.window, plan.head.setting.window) == (window, window, told)
    assert plan.head.rules_version == BOOK.version
    check_settings(plan.head, [plan.head.setting])


def test_another_source_of_text_takes_the_place_of_the_first() -> None:
    """Fields replace a template and the other way round; the default search is on them."""
    plan = plan_of("films", {"template": "{title}. {text}"})
    assert (plan.rule.fields, plan.template["query"]["multi_match"]["fields"]) == ((), ["title", "text"])
    assert plan_of("books", {"fields": ["name"]}).rule.template == ""


def test_keys_about_thinking_belong_to_their_scorer() -> None:
    """A scorer that does not think can take the place of one that does, though the rule has a mode."""
    assert plan_of("books", {}).head.mode == "cascade"
    assert plan_of("books", {"scorer": "minilm"}).head.mode is None


def test_an_index_without_a_rule_can_be_replayed_by_one_of_its_own() -> None:
    """Overrides with fields make a rule where none is in force."""
    assert plan_of("a,b-*", {"fields": ["x"]}).rule.indices == ("a", "b-*")


@pytest.mark.parametrize(
    ("index", "overrides", "window", "said"),
    [
        ("other", {}, None, r"\[index\] no rule holds for \[other\] \(no_rule\)"),
        (".kibana", {"fields": ["x"]}, None, r"\(system_index\)"),
        ("films,books", {"fields": ["x"]}, None, r"\(several_rules\)"),
        ("other", {"scorer": "minilm"}, None, r"\[rule\] either fields or template"),
        ("films", {"indices": ["x"]}, None, r"\[rule\] unknown field \[indices\]; allowed are \[fields, "),
        ("films", {"alhpa": 1}, None, r"\[rule\] unknown field \[alhpa\]"),
        ("films", {"alpha": 2}, None, r"\[rule\] alpha = 2: "),
        ("films", {"fields": "title"}, None, r"\[rule\] fields = "),
        ("films", {"scorer": "x"}, None, r"\[rule\] scorer = 'x': known are minilm, big, e5"),
        ("films", {"mode": "think"}, None, r"\[rule\] mode = \"think\": .* does not think"),
        ("films", {"window": 900}, None, r"\[rule\] window = 900: at most limits.max_window = 200"),
        ("films", {"deadline_s": 99.0}, None, r"\[rule\] deadline_s = 99.0: at most"),
    ],
)
def test_what_does_not_fit_is_refused(index: str, overrides: dict[str, Any], window: int | None, said: str) -> None:
    """The error names the key, its value and what is allowed, in the words of the configuration."""
    with pytest.raises(CallerError, match=said):
        plan_of(index, overrides, window)
