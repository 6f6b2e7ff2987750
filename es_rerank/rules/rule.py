"""One rule: which indices it matches, what text is scored, and by what policy. Here it is checked by itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, field_validator, model_validator

from es_rerank.fusion.fuse import Method  # noqa: TC001  pydantic reads annotations at run time
from es_rerank.judgment import ScoreRule  # noqa: TC001  as above
from es_rerank.rules.patterns import covers, why_never
from es_rerank.tables import DEFAULT_INSTRUCTION, Instruction, Name, Seconds, Section, Share, not_empty
from es_rerank.texts import TEMPLATE_FIELD, TextSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

Mode = Literal["think", "direct", "cascade"]
Dashboards = Literal["leave", "rerank"]
FirstStages = Literal["bm25", "any"]
# As long as a name in a query that is looked at.
MAX_FIELD_CHARACTERS = 256
# As in the fields of a `multi_match`, from which rules are copied.
BOOST = re.compile(r"\^[0-9.]*$")


def field_name(name: str) -> str:
    """The name, if it can be that of a field in `_source`. Raises ValueError that says what is wrong with it."""
    if BOOST.search(name):
        plain = BOOST.sub("", name)
        raise ValueError(f"{name!r}: a field has no boost here; write {plain!r}, twice if it is to weigh more")
    if "*" in name:
        raise ValueError(f"{name!r}: '*' is no wildcard here; name each field")
    if any(not part or part.strip() != part for part in name.split(".")):
        raise ValueError(f"{name!r}: a name without blanks around it, its parts divided by single dots")
    return name


def field_pattern(name: str) -> str:
    """The name or pattern, if it can mean a field in a query. Raises ValueError that says what is wrong with it."""
    if BOOST.search(name):
        raise ValueError(f"{name!r}: a field has no boost here; write {BOOST.sub('', name)!r}")
    if any(not part or part.strip() != part for part in name.split(".")):
        raise ValueError(f"{name!r}: a name without blanks around it, its parts divided by single dots")
    return name


FieldPatterns = tuple[Annotated[StrictStr, Field(max_length=MAX_FIELD_CHARACTERS), AfterValidator(field_pattern)], ...]


class Rule(Section):
    """Which indices are reranked, on what text, and how."""

    name: Name
    indices: Annotated[tuple[Annotated[StrictStr, Field(min_length=1)], ...], AfterValidator(not_empty)]
    fields: tuple[Annotated[StrictStr, AfterValidator(field_name)], ...] = ()
    template: StrictStr = ""
    question_fields: FieldPatterns = ()
    ignore_fields: FieldPatterns = ()
    window: Annotated[StrictInt, Field(ge=1)] = 100
    alpha: Share | None = None
    method: Method = "zscore"
    instruction: Instruction = DEFAULT_INSTRUCTION
    scorer: Name = "minilm"
    any_language: StrictBool = False
    deadline_s: Seconds | None = None
    dashboards: Dashboards = "leave"
    async_search: StrictBool = False
    pit: StrictBool = False
    templates: StrictBool = False
    first_stage: FirstStages = "bm25"
    mode: Mode = "think"
    budget_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    think_top: Annotated[StrictInt, Field(ge=1)] = 20
    score: ScoreRule = "paper"
    keep_reasoning: StrictBool = False

    @field_validator("indices")
    @classmethod
    def _no_system_index(cls, indices: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in indices:
            if pattern.startswith((".", "-", "_", "+")) or set(pattern) & set(",?["):
                raise ValueError(
                    f"{pattern!r}: one index name or pattern each, not beginning with '.', '-', '_' or '+'; "
                    "the wildcard is '*'"
                )
            if why := why_never(pattern):
                raise ValueError(f"{pattern!r}: can match no index: {why}")
        return indices

    @model_validator(mode="after")
    def _one_source_of_text(self) -> Self:
        if bool(self.fields) == bool(self.template):
            raise ValueError("either fields or template says what text is scored: set exactly one of them")
        if self.template and not TEMPLATE_FIELD.search(self.template):
            raise ValueError(f"template = {self.template!r}: name at least one field, as in '{{title}}. {{text}}'")
        for name in TEMPLATE_FIELD.findall(self.template):
            field_name(name)
        return self

    @property
    def text(self) -> TextSpec:
        """What text of a document is scored."""
        return TextSpec(fields=self.fields, template=self.template)

    def matches(self, index: str) -> bool:
        """Whether one index expression falls under this rule."""
        return any(covers(pattern, index) for pattern in self.indices)


def first_match(rules: Sequence[Rule], pattern: str) -> Rule | None:
    """The first of these rules under which everything falls that the name or pattern can mean; None if none does."""
    return next((rule for rule in rules if rule.matches(pattern)), None)
