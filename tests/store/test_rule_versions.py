"""Versions of stored rules: what a document means, what a rollback restores, and what is left out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.rules.merge import RuleBase
from es_rerank.rules.rule import Rule
from es_rerank.scorers.minilm import MinilmSettings
from es_rerank.store.rule_versions import RuleVersion, document_of, in_force, restored, version_in, versions_in
from es_rerank.tables import LimitSettings

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
KEYS = {"indices": ["films"], "fields": ["text"]}
BASE = RuleBase(
    rules=(Rule(name="films", indices=("films",), fields=("title",)),),
    scorers={"minilm": MinilmSettings()},
    limits=LimitSettings(),
)


@dataclass(frozen=True)
class State:
    """A rule as it was after a change, and what it was before: what an editor's undo goes back through."""

    keys: dict[str, Any] | None
    before: State | None


NOTHING = State(keys=None, before=None)


@given(st.lists(st.sampled_from(("put", "delete", "rollback")), max_size=30))
def test_a_rollback_is_an_undo(actions: list[str]) -> None:
    """Each rollback undoes the last change that is not undone yet, however puts, deletes and rollbacks alternate."""
    versions: list[RuleVersion] = []
    state = NOTHING
    for number, action in enumerate(actions, start=1):
        if action == "rollback":
            current = versions[-1] if versions else None
            assert (current is None or current.made_in == 0) == (state.before is None)
            if current is None or state.before is None:
                return
            versions.append(restored(current, versions[current.made_in - 2] if current.made_in > 1 else None))
            state = state.before
        else:
            keys = {**KEYS, "window": number} if action == "put" else None
            made = RuleVersion(name="films", version=number, action="put" if keys else "delete", rule=keys)
            versions.append(made)
            state = State(keys=keys, before=state)
        assert versions[-1].version == number
        assert versions[-1].rule == state.keys


def test_the_manual_s_table_is_what_happens() -> None:
    """The page's example of puts and rollbacks, row by row."""
    rows = re.findall(r"^\| (\d+) \| (put \w|rollback) \| (.+?) \| (\d?) ?\|$", PAGE, re.MULTILINE)
    assert len(rows) == 8
    versions: list[RuleVersion] = []
    for number, request, held, restores in rows:
        if request == "rollback":
            current = versions[-1]
            versions.append(restored(current, versions[current.made_in - 2] if current.made_in > 1 else None))
        else:
            versions.append(RuleVersion(name="films", version=int(number), rule={"instruction": request[-1]}))
        newest = versions[-1]
        shown = "the file's" if newest.rule is None else newest.rule["instruction"]
        back = "" if newest.restores is None else str(newest.restores)
        assert (str(newest.version), shown, back) == (number, held, restores)


def test_rolling_back_twice_goes_back_two_steps() -> None:
    """From the third put, two rollbacks lead to the first, and say so."""
    puts = [RuleVersion(name="films", version=number, rule={**KEYS, "window": number}) for number in (1, 2, 3)]
    once = restored(puts[2], puts[1])
    twice = restored(once, puts[0])
    thrice = restored(twice, None)
    assert [(one.version, one.restores) for one in (once, twice, thrice)] == [(4, 2), (5, 1), (6, 0)]
    assert (twice.rule, thrice.rule) == (puts[0].rule, None)


@given(
    st.builds(
        RuleVersion,
        name=st.text(min_size=1),
        version=st.integers(min_value=1, max_value=2**31 - 1),
        timestamp=st.text(),
        who=st.text(),
        action=st.sampled_from(("put", "delete", "rollback")),
        why=st.none() | st.text(),
        from_run=st.none() | st.text(),
        restores=st.none() | st.integers(min_value=0, max_value=9),
        rule=st.none() | st.dictionaries(st.text(), st.none() | st.integers() | st.text()),
    )
)
def test_a_version_comes_back_from_its_document(version: RuleVersion) -> None:
    """What is written is what is read."""
    assert version_in(document_of(version, None)) == version


def test_a_document_has_what_charts_need() -> None:
    """The values that hold are in fields of their own, those that the rule does not set too."""
    version = RuleVersion(name="films", version=1, rule={**KEYS, "window": 50})
    document = document_of(version, in_force(BASE, [version]).find("films"))
    alpha = BASE.scorers["minilm"].abilities.alpha
    charted = {key: document[key] for key in ("alpha", "method", "window", "score", "scorer", "action")}
    assert charted == {
        "alpha": alpha, "method": "zscore", "window": 50, "score": "paper", "scorer": "minilm", "action": "put",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"rule": {**KEYS, "windw": 5}}, "windw: unknown key; did you mean 'window'? allowed are name, indices"),
        ({"rule": {**KEYS, "window": "5"}}, 'window = "5": input should be a valid integer'),
        ({"rule": {**KEYS, "scorer": "gone"}}, "scorer = 'gone': known are minilm"),
        ({"rule": 5}, "rule: an object with the rule's keys is needed"),
        ({"version": "first", "who": 7, "action": "steal"}, "rule: an object with the rule's keys is needed"),
    ],
)
def test_what_is_written_by_hand_can_be_wrong(source: dict[str, Any], why: str) -> None:
    """A document that can't be used leaves the file's rule in force, and the reason is told."""
    found = in_force(BASE, [version_in({"name": "films", **source})])
    assert found.invalid["films"].startswith(why)
    assert found.book.rules[0].rule == BASE.rules[0]


def test_a_document_without_a_name_is_none() -> None:
    """It is no version of any rule, and breaks nothing."""
    hits = [{"_source": source} for source in ({}, {"name": 5}, {"name": "films", "rule": KEYS})]
    assert [version.name for version in versions_in({"hits": {"hits": hits}})] == ["films"]
