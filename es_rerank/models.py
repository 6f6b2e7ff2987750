"""The models that callers of the rerank API name, each bound to its scorer: checked, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.scorers.kinds import ScorerSettings
    from es_rerank.tables import LimitSettings, RerankApiSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model under the `name` that callers send, and the scorer that is meant.

    `budget_tokens` is how long it may think about a document, 0 for an answer without thinking.
    """

    name: str
    scorer_name: str
    scorer: ScorerSettings
    fingerprint: str
    budget_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankApi:
    """The rerank API as it is configured: its models by name, and the one that counts where a caller names none."""

    settings: RerankApiSettings
    models: Mapping[str, Model]
    default: Model


def make_rerank_api(
    settings: RerankApiSettings, scorers: Mapping[str, ScorerSettings], limits: LimitSettings
) -> RerankApi:
    """The API of these settings. Raises ValueError that names the first wrong key and what is allowed.

    Its text repeats no name of a model or scorer: somebody may have put a key there.
    """
    if settings.deadline_s > limits.max_deadline_s:
        raise ValueError(
            f"rerank_api.deadline_s = {settings.deadline_s}: at most limits.max_deadline_s = {limits.max_deadline_s}"
        )
    for position, name in enumerate(settings.scorers.values()):
        if name not in scorers:
            raise ValueError(f"rerank_api.scorers: item {position + 1} names no scorer; known are {', '.join(scorers)}")
    if settings.default_model is not None and settings.default_model not in settings.scorers:
        raise ValueError("rerank_api.default_model: is no model of rerank_api.scorers")
    _check_thinking(settings, scorers)
    models = {model: _bind(model, name, scorers[name], settings) for model, name in settings.scorers.items()}
    first = next(iter(models))
    return RerankApi(settings=settings, models=models, default=models[settings.default_model or first])


def _check_thinking(settings: RerankApiSettings, scorers: Mapping[str, ScorerSettings]) -> None:
    """Refuse keys about thinking that can't be kept."""
    budget = settings.budget_tokens
    thinking = {name for name in settings.scorers.values() if scorers[name].abilities.thinks}
    if not thinking:
        asked = [key for key in ("mode", "budget_tokens") if key in settings.model_fields_set]
        if asked:
            raise ValueError(f"rerank_api.{asked[0]}: none of the scorers of rerank_api.scorers thinks")
    elif budget is not None and settings.mode == "direct":
        raise ValueError(f"rerank_api.budget_tokens = {budget}: mode 'direct' answers without thinking")
    for name in sorted(thinking):
        most = scorers[name].abilities.max_think_tokens
        if budget is not None and budget > most:
            raise ValueError(f"rerank_api.budget_tokens = {budget}: at most scorers.{name}.max_think_tokens = {most}")


def _bind(model: str, name: str, scorer: ScorerSettings, settings: RerankApiSettings) -> Model:
    most = scorer.abilities.max_think_tokens  # 0 for a scorer that does not think
    return Model(
        name=model,
        scorer_name=name,
        scorer=scorer,
        fingerprint=scorer.fingerprint(),
        budget_tokens=0 if settings.mode == "direct" or not most else settings.budget_tokens or most,
    )
