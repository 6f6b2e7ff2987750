"""Makes our own indices where a caller finds one missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_rerank.errors import CallerError
from es_rerank.store.engine import StoreError, prepare

if TYPE_CHECKING:
    from es_rerank.proxy.own.call import OwnCall
    from es_rerank.store.indices import OwnIndex


async def make_index(call: OwnCall, index: OwnIndex) -> None:
    """Make the index as it is defined, before a caller writes into it who may have no right to make one.

    It is made with the login of es-rerank itself. Raises CallerError: 503 where that fails, 501 without [store].
    """
    try:
        await prepare(call.need_store())
    except StoreError as error:
        raise CallerError(f"the index {index.name} is missing, and can't be made: {error}", status=503) from error
