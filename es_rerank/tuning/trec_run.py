"""A recording as a TREC run: the order under one setting, as trec_eval and ir-measures read it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.order import check_settings, order_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from es_rerank.tuning.recording import Recording, Setting

BLANK = re.compile(r"\s")


def trec_run(recording: Recording, setting: Setting | None, tag: str) -> Iterator[str]:
    """The lines `query_id Q0 docid rank score tag`, each with its end; `setting` None is the engine's own order.

    The score only tells the order: it falls by 1 from hit to hit, since trec_eval sorts by it alone, and a hit without
    a judgment has no fused score. Raises TuningError for what the format can't hold: an id with a blank, or a document
    of the same id in two indices.
    """
    check_settings(recording.head, () if setting is None else (setting,))
    _check_word("tag", tag)
    for query in recording.queries:
        hits = query.ids if setting is None else order_of(query, setting)
        _check_word("query_id", query.query_id)
        if len({object_id for _, object_id in hits}) < len(hits):
            raise TuningError(
                f"query {query.query_id!r}: two hits have the same _id, which a TREC run can't tell apart"
            )
        for rank, (_, object_id) in enumerate(hits, start=1):
            _check_word("_id", object_id)
            yield f"{query.query_id} Q0 {object_id} {rank} {len(hits) + 1 - rank} {tag}\n"


def _check_word(name: str, text: str) -> None:
    if not text or BLANK.search(text):
        raise TuningError(f"{name}: a TREC run can't hold {text!r}: it must be one word without blanks")
