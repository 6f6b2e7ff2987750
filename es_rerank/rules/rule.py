"""One rule: which indices it matches, what text is scored, and by what policy. Here it is checked by itself."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, field_validator, model_validator

from es_rerank.fusion.fuse import Method  # noqa: TC001  pydantic reads annotations at run time
from es_rerank.judgment import ScoreRule  # noqa: TC001  as above
from es_rerank.tables import Name, Seconds, Section, Share, not_empty
from es_rerank.texts import TEMPLATE_FIELD, TextSpec

Mode = Literal["think", "direct", "cascade"]
MAX_INSTRUCTION_CHARACTERS = 2_000


class Rule(Section):
    """Which indices are reranked, on what text, and how."""

    name: Name
    indices: Annotated[tuple[Annotated[StrictStr, Field(min_length=1)], ...], AfterValidator(not_empty)]
    fields: tuple[Annotated[StrictStr, Field(min_length=1)], ...] = ()
    template: StrictStr = ""
    window: Annotated[StrictInt, Field(ge=1)] = 100
    alpha: Share | None = None
    method: Method = "zscore"
    instruction: Annotated[StrictStr, Field(max_length=MAX_INSTRUCTION_CHARACTERS)] = (
        "Given a query, retrieval relevant passage."
    )
    scorer: Name = "minilm"
    any_language: StrictBool = False
    deadline_s: Seconds | None = None
    mode: Mode = "think"
    budget_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    think_top: Annotated[StrictInt, Field(ge=1)] = 20
    score: ScoreRule = "paper"
    keep_reasoning: StrictBool = False

    @field_validator("indices")
    @classmethod
    def _no_system_index(cls, indices: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in indices:
            if pattern.startswith((".", "-", "_")) or set(pattern) & set(",?["):
                raise ValueError(
                    f"{pattern!r}: one index name or pattern each, not beginning with '.', '-' or '_'; "
                    "the wildcard is '*'"
                )
        return indices

    @model_validator(mode="after")
    def _one_source_of_text(self) -> Self:
        if bool(self.fields) == bool(self.template):
            raise ValueError("either fields or template says what text is scored: set exactly one of them")
        if self.template and not TEMPLATE_FIELD.search(self.template):
            raise ValueError(f"template = {self.template!r}: name at least one field, as in '{{title}}. {{text}}'")
        return self

    @property
    def text(self) -> TextSpec:
        """What text of a document is scored."""
        return TextSpec(fields=self.fields, template=self.template)

    def matches(self, index: str) -> bool:
        """Whether one index expression falls under this rule."""
        return any(fnmatchcase(index, pattern) for pattern in self.indices)
