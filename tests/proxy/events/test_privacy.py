"""What of the user's words is kept."""

from __future__ import annotations

import hashlib
import hmac

from pydantic import SecretStr

from es_rerank.proxy.events.privacy import KeptQuery, query_keeper
from es_rerank.tables import EventSettings

KEY = "a key of sixteen characters"


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    """The default keeps neither words nor hash."""
    assert query_keeper(EventSettings()).keep("moon") == KeptQuery()


def test_plain_words_are_kept_as_they_are() -> None:
    """As the user wrote them."""
    assert query_keeper(EventSettings(query_text="plain")).keep("Möön ") == KeptQuery(user_query="Möön ")


def test_the_hash_is_the_keyed_one_of_the_standard() -> None:
    """HMAC-SHA256, as another program computes it with the same key; the key is in no repr."""
    keeper = query_keeper(EventSettings(query_text="hashed", hash_key=SecretStr(KEY)))
    expected = hmac.new(KEY.encode(), "Möön".encode(), hashlib.sha256).hexdigest()
    assert keeper.keep("Möön") == KeptQuery(user_query_hash=expected)
    assert keeper.keep("moon") != keeper.keep("Moon")
    assert KEY not in repr(keeper)
