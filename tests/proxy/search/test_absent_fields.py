"""A rule's field that no document has is noticed, and told of once."""

from __future__ import annotations

from es_rerank.proxy.search.absent_fields import IN_A_ROW, AbsentFields

FIELDS = ("title", "titel", "text")


def searched(seen: AbsentFields, missing: dict[str, int], *, hits: int = 10, times: int = 1) -> list[str]:
    """What is told after some searches, each of which finds this."""
    return [field for _ in range(times) for field in seen.note("films", FIELDS, hits=hits, missing=missing)]


def test_a_field_that_no_hit_of_many_searches_has_is_told_once() -> None:
    """After some searches in a row in which every hit lacked a field, that field is told, and not again."""
    seen = AbsentFields()
    assert searched(seen, {"titel": 10, "title": 9}, times=IN_A_ROW - 1) == []
    assert seen.of("films") == ()
    assert searched(seen, {"titel": 10}) == ["titel"]
    assert searched(seen, {"titel": 10}, times=5) == []
    assert seen.of("films") == ("titel",)
    assert seen.of("books") == ()


def test_one_hit_with_the_field_ends_the_row() -> None:
    """A field that some document has is not absent, and a search without hits says nothing."""
    seen = AbsentFields()
    searched(seen, {"titel": 10}, times=IN_A_ROW)
    assert searched(seen, {"titel": 9}) == []
    assert seen.of("films") == ()
    assert searched(seen, {}, hits=0, times=2 * IN_A_ROW) == []
    assert seen.of("films") == ()
    assert searched(seen, {"titel": 10}, times=IN_A_ROW) == []
    assert seen.of("films") == ("titel",)


def test_rules_are_told_apart() -> None:
    """The same field of two rules is counted for each."""
    seen = AbsentFields()
    for _ in range(IN_A_ROW):
        seen.note("films", ("text",), hits=1, missing={"text": 1})
        seen.note("books", ("text",), hits=1, missing={})
    assert (seen.of("films"), seen.of("books")) == (("text",), ())
