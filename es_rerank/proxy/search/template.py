"""A search template: the request that has the engine make the search of it, and the search that comes of that. Pure.

The search's window is asked for by the client's own endpoint too, as a template that is nothing but one parameter. So
what that endpoint makes of its URL, of `explain` and `profile`, and how it writes answers, stays the engine's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from es_rerank.proxy.search.carrier import JSON_HEADER, BodyCarrier, SourceCarrier, asked_beside
from es_rerank.proxy.search.many import source_in_body
from es_rerank.proxy.search.query_string import edit_query
from es_rerank.rawjson import edit_object, read_object
from es_rerank.records import without_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from es_rerank.proxy.search.call import SearchCall
    from es_rerank.proxy.search.carrier import Carrier
    from es_rerank.records import Request

# Gives the parameter as it is, and looks for no template in it. One source for all searches is compiled once: engines
# compile so many in five minutes (75 by default), and no source longer than 64 KiB.
VERBATIM = "{{{search}}}"
# The keys that say which search is made; two are old names of `source`.
MAKING = ("id", "source", "inline", "template", "params")
RENDERED = re.compile(rb'\s*\{\s*"template_output"\s*:(.*)\}\s*', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateCarrier:
    """A search that was made of a template. See `Carrier`.

    `own` is the client's request as it goes through. `form` is where another search can be put in, and `frame` what a
    template request says there besides the search.
    """

    own: Carrier
    form: Carrier
    frame: bytes
    search: bytes

    @property
    def request(self) -> Request:
        """See `Carrier`."""
        return self.own.request

    def carrying(self, body: bytes) -> Self:
        """See `Carrier`. The template itself makes another search, so it is left out from then on."""
        return replace(self, own=self._with(body), search=body)

    def without_header(self, name: bytes) -> Self:
        """See `Carrier`."""
        return replace(self, own=self.own.without_header(name), form=self.form.without_header(name))

    def without_parameter(self, name: str) -> Self:
        """See `Carrier`."""
        return replace(self, own=self.own.without_parameter(name), form=self.form.without_parameter(name))

    def on_page(self, start: int, size: int) -> Self:
        """See `Carrier`."""
        return self.carrying(edit_object(self.search, {"from": start, "size": size}))

    def asking(self, *, first: int | None, filtered: bool, source: Mapping[str, str] | None = None) -> Request:
        """See `Carrier`. The page, and what is shown of `_source`, are asked for in the search."""
        changes: dict[str, Any] = {} if first is None else {"from": 0, "size": first}
        if source is not None:
            changes["_source"] = source_in_body(source)
        asked = self._with(edit_object(self.search, changes)) if changes else self.own
        return asked.asking(first=None, filtered=filtered)

    def _with(self, search: bytes) -> Carrier:
        said = {"source": VERBATIM, "params": {"search": search.decode()}}
        return self.form.carrying(edit_object(self.frame, said))


def rendering_of(call: SearchCall) -> Request:
    """The request for the search that a template makes, with the caller's own headers."""
    return asked_beside(call.carrier.request, b"/_render/template", call.body)


def read_rendered(body: bytes) -> bytes | None:
    """What a template makes, which may be anything, out of an answer with status 200; None if the answer is another.

    The engines write it into their answer unread. So it is not looked for as a member: what follows the first object
    of it would be taken for other members of the answer.
    """
    found = RENDERED.fullmatch(body)
    return None if found is None else found[1]


def rendered_call(call: SearchCall, wishes: Mapping[str, Any], search: bytes) -> SearchCall:
    """The call of the search that was made of a template. `wishes` is what the template's request asked of us."""
    carrier = TemplateCarrier(
        own=call.carrier,
        form=_with_room(call.carrier),
        frame=edit_object(call.body, dict.fromkeys(MAKING)),
        search=search,
    )
    return replace(call, carrier=carrier, body=search, search=read_object(search), template=False, wishes=wishes)


def _with_room(carrier: Carrier) -> Carrier:
    """The carrier, or the same request with a body if it has none: a URL has room for the name of a template only."""
    if not isinstance(carrier, SourceCarrier):
        return carrier
    request = carrier.request
    target = edit_query(request.target, drop={"source", "source_content_type"}, add={})
    headers = (*without_headers(request.headers, b"content-type"), JSON_HEADER)
    return BodyCarrier(replace(request, target=target, headers=headers, body=b""))
