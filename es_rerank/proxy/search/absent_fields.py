"""Notices a rule's field that no document has: a typo in the configuration, which else nobody would hear of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IN_A_ROW = 20


class AbsentFields:
    """By rule: the fields that every hit lacked in each of the last searches, twenty of them or more.

    A search without hits says nothing. It holds one number for each field of a rule.
    """

    def __init__(self) -> None:
        self._in_a_row: dict[tuple[str, str], int] = {}
        self._told: set[tuple[str, str]] = set()

    def note(self, rule: str, fields: Sequence[str], *, hits: int, missing: Mapping[str, int]) -> tuple[str, ...]:
        """One search under a rule: how many of its hits lack each field. Gives what to warn of, each once."""
        if not hits:
            return ()
        for field in fields:
            lacked = missing.get(field, 0) >= hits
            self._in_a_row[(rule, field)] = self._in_a_row.get((rule, field), 0) + 1 if lacked else 0
        news = {(rule, field) for field in self.of(rule)} - self._told
        self._told |= news
        return tuple(sorted(field for _, field in news))

    def of(self, rule: str) -> tuple[str, ...]:
        """The fields of a rule that seem to be in no document, in the order in which they were first met."""
        return tuple(
            field for (name, field), searches in self._in_a_row.items() if name == rule and searches >= IN_A_ROW
        )
