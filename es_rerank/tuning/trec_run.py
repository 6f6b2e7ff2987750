"""A recording as a TREC run: the order under one setting, as trec_eval and ir-measures read it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.exports import trec_id
from es_rerank.tuning.order import check_settings, order_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from es_rerank.tuning.recording import Recording, Setting

BLANK = re.compile(r"\s")


def trec_run(recording: Recording, setting: Setting | None, tag: str) -> Iterator[str]:
    """The lines `query_id Q0 docid rank score tag`, each with its end; `setting` None is the engine's own order.

    The score only tells the order: it falls by 1 from hit to hit, since trec_eval sorts by it alone, and a hit without
    a judgment has no fused score. Ids are written as in exported qrels, see `trec_id`. Raises TuningError for what the
    format can't tell apart: documents of one id in two indices, or two ids that are written alike.
    """
    check_settings(recording.head, () if setting is None else (setting,))
    if not tag or BLANK.search(tag):
        raise TuningError(f"tag: a TREC run can't hold {tag!r}: it must be one word without blanks")
    written: set[str] = set()
    for query in recording.queries:
        hits = query.ids if setting is None else order_of(query, setting)
        query_id, ids = trec_id(query.query_id), [trec_id(object_id) for _, object_id in hits]
        if query_id in written:
            raise TuningError(f"query {query.query_id!r}: another one's id is written as {query_id!r} too")
        written.add(query_id)
        if len(set(ids)) < len(ids):
            raise TuningError(
                f"query {query.query_id!r}: two hits have the same _id, which a TREC run can't tell apart"
            )
        for rank, object_id in enumerate(ids, start=1):
            yield f"{query_id} Q0 {object_id} {rank} {len(ids) + 1 - rank} {tag}\n"
