"""Searches in the shapes that public front ends send, each with the words that its user typed.

The shapes follow the query builders of the named projects; fields and words are made up. A shape that several projects
share stands here once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class RealBody:
    """A search of a front end: its query, the types of its fields (texts if not named), and what the user typed."""

    name: str
    query: dict[str, Any]
    words: str
    types: Mapping[str, str] = field(default_factory=dict)


def _match(name: str, words: str, **more: Any) -> dict[str, Any]:
    return {"match": {name: {"query": words, **more}}}


def _multi(words: str, *fields: str, **more: Any) -> dict[str, Any]:
    return {"multi_match": {"query": words, "fields": list(fields), **more}}


def _bool(**clauses: Any) -> dict[str, Any]:
    return {"bool": clauses}


_BOOTS = "waterproof hiking boots"

REAL_BODIES = (
    RealBody(
        name="searchkick: two analyzers and their fuzzy twins, conversions in a nested field",
        query=_bool(
            must={
                "dis_max": {
                    "queries": [
                        _match("name.analyzed", _BOOTS, boost=10, operator="and", analyzer="searchkick_search"),
                        _match("name.analyzed", _BOOTS, boost=10, operator="and", analyzer="searchkick_search2"),
                        _match("name.analyzed", _BOOTS, boost=1, fuzziness=1, prefix_length=0, max_expansions=3),
                    ]
                }
            },
            should=[
                {
                    "nested": {
                        "path": "conversions",
                        "score_mode": "sum",
                        "query": {
                            "function_score": {
                                "boost_mode": "replace",
                                "query": {"match": {"conversions.query": _BOOTS}},
                                "field_value_factor": {"field": "conversions.count"},
                            }
                        },
                    }
                }
            ],
        ),
        types={"conversions.query": "keyword"},
        words=_BOOTS,
    ),
    RealBody(
        name="Magento: a match for each attribute beside keyword ids in the must",
        query=_bool(
            must=[
                {"terms": {"visibility": ["3", "4"]}},
                {"match": {"category_ids": "38"}},
                {"match": {"status": 1}},
            ],
            should=[
                _match("sku", _BOOTS, boost=7),
                _match("_search", _BOOTS, boost=2),
                _match("name", _BOOTS, boost=6),
                {"match_phrase_prefix": {"name": {"query": _BOOTS, "boost": 6}}},
            ],
            minimum_should_match=1,
        ),
        types={"category_ids": "integer", "status": "integer", "sku": "keyword"},
        words=_BOOTS,
    ),
    RealBody(
        name="ElasticSuite: a weighted multi_match under a constant-score cut-off and phrase boosts",
        query=_bool(
            must=[_multi(_BOOTS, "search^1", "sku^1", minimum_should_match="100%", tie_breaker=1)],
            should=[
                _multi(_BOOTS, "name.whitespace^10", "search.whitespace^1", type="best_fields"),
                _multi(_BOOTS, "name.shingle^10", "search.shingle^1", type="phrase"),
            ],
            filter=[{"term": {"store_id": 1}}],
        ),
        types={"sku": "keyword"},
        words=_BOOTS,
    ),
    RealBody(
        name="ElasticPress: phrase, exact and fuzzy multi_match within a date decay",
        query={
            "function_score": {
                "query": _bool(
                    should=[
                        _multi(_BOOTS, "post_title^1", "post_excerpt^1", "post_content^1", type="phrase", boost=4),
                        _multi(_BOOTS, "post_title^1", "post_excerpt^1", boost=2, fuzziness=0, operator="and"),
                        _multi(_BOOTS, "post_title", "post_excerpt", "post_content", fuzziness=1),
                    ]
                ),
                "functions": [{"exp": {"post_date_gmt": {"scale": "14d", "decay": 0.25, "offset": "7d"}}}],
                "score_mode": "avg",
                "boost_mode": "sum",
            }
        },
        words=_BOOTS,
    ),
    RealBody(
        name="ElasticPress, cross fields: one field list with taxonomy terms and authors",
        query=_bool(
            must=[
                _bool(
                    should=[
                        _multi(_BOOTS, "post_title^3", "terms.category.name^27", type="phrase"),
                        _multi(_BOOTS, "post_title", "post_author.display_name", type="cross_fields", operator="and"),
                    ]
                )
            ],
            filter=[{"terms": {"post_type.raw": ["post", "page"]}}, {"term": {"post_status": "publish"}}],
        ),
        words=_BOOTS,
    ),
    RealBody(
        name="Saleor: one multi_match and filters",
        query=_bool(must=[_multi(_BOOTS, "title", "name", "description")], filter=[{"term": {"is_published": True}}]),
        words=_BOOTS,
    ),
    RealBody(
        name="Wagtail: a match on the text of everything, content types in the filter",
        query=_bool(
            filter=[{"match": {"content_type": "wagtailcore.Page"}}, {"term": {"live_filter": True}}],
            must=_bool(
                should=[
                    _match("_all_text", "annual report", operator="and"),
                    _match("_all_text_boost_2_0", "annual report", boost=2.0, operator="and"),
                ]
            ),
        ),
        words="annual report",
    ),
    RealBody(
        name="django-haystack: the words with brackets in a query_string, models in the filter",
        query=_bool(
            must={
                "query_string": {
                    "default_field": "text",
                    "default_operator": "AND",
                    "query": "(annual AND report)",
                    "analyze_wildcard": True,
                }
            },
            filter={"terms": {"django_ct": ["news.article"]}},
        ),
        words="annual report",
    ),
    RealBody(
        name="django-haystack, models in the query string",
        query={
            "query_string": {
                "default_field": "text",
                "query": "(annual report) AND django_ct:(news.article OR news.note) AND lang:en",
            }
        },
        types={"django_ct": "keyword", "lang": "keyword"},
        words="annual report",
    ),
    RealBody(
        name="Mastodon, posts: a multi_match for each word, a match_phrase for each phrase",
        query=_bool(
            must=[
                _multi("solar", "text", "text.stemmed", type="most_fields", operator="and"),
                _multi("panels", "text", "text.stemmed", type="most_fields", operator="and"),
                {"match_phrase": {"text": {"query": "on balconies"}}},
            ],
            must_not=[{"term": {"language": {"value": "fr"}}}],
            filter=[_bool(should=[{"term": {"searchable_by": 7}}, {"term": {"properties": "public"}}])],
        ),
        words="solar panels on balconies",
    ),
    RealBody(
        name="Mastodon, accounts: names and display names with their sub-fields, boosted by followers and following",
        query=_bool(
            must={
                "function_score": {
                    "query": _bool(
                        must=[
                            {
                                "dis_max": {
                                    "queries": [
                                        _multi("jane doe", "username", "username.*", type="most_fields"),
                                        _multi("jane doe", "display_name", "display_name.*", type="most_fields"),
                                    ]
                                }
                            },
                            {"terms": {"id": [7, 8]}},
                        ],
                        must_not=[],
                    ),
                    "functions": [{"script_score": {"script": {"source": "Math.log10(2)"}}}],
                }
            },
            should=[{"terms": {"id": [1, 2, 3], "boost": 100}}],
        ),
        words="jane doe",
    ),
    RealBody(
        name="Zammad: a query_string with a wildcard at its end, and rights beside it",
        query=_bool(
            must=[
                _bool(
                    must=[
                        {
                            "query_string": {
                                "query": "printer offline*",
                                "default_operator": "AND",
                                "analyze_wildcard": True,
                            }
                        }
                    ]
                ),
                _bool(must=[{"terms": {"group_id": [1, 2]}}]),
            ]
        ),
        words="printer offline",
    ),
    RealBody(
        name="Zammad with fields in the query string",
        query=_bool(
            must=[{"query_string": {"query": 'state.name:open AND owner.login:"ann" AND title:(printer offline)'}}]
        ),
        types={"state.name": "keyword", "owner.login": "keyword"},
        words="printer offline",
    ),
    RealBody(
        name="GitLab, issues: a simple_query_string, and its iid as a term",
        query=_bool(
            must=[
                {
                    "simple_query_string": {
                        "fields": ["title^2", "description"],
                        "query": 'login "time out" -staging',
                        "lenient": True,
                        "default_operator": "and",
                    }
                }
            ],
            filter=[{"term": {"type": {"value": "issue", "_name": "doc:is_a:issue"}}}, {"terms": {"project_id": [1]}}],
        ),
        words="login time out",
    ),
    RealBody(
        name="GitLab, merge requests: multi_match twice, in a should of its own",
        query=_bool(
            should=[
                _multi("login timeout", "title^2", "description", operator="and", lenient=True),
                _multi("login timeout", "title^2", "description", type="phrase", lenient=True),
                {"term": {"iid": {"value": "77"}}},
            ],
            minimum_should_match=1,
            filter=[{"term": {"type": "merge_request"}}],
        ),
        words="login timeout",
    ),
    RealBody(
        name="Nextcloud: for each word a clause on each field, and wildcards on shared names",
        query=_bool(
            must=_bool(
                should=_bool(
                    must=[
                        _bool(
                            should=[
                                {"match_phrase_prefix": {"content": word}},
                                {"match_phrase_prefix": {"title": word}},
                                {"match_phrase_prefix": {"parts.comments": word}},
                                {"wildcard": {"share_names.ann": f"*{word}*"}},
                            ]
                        )
                        for word in ("travel", "costs", "berl")
                    ]
                )
            ),
            filter=[
                _bool(must={"term": {"provider": "files"}}),
                _bool(should=[{"term": {"owner": "ann"}}, {"term": {"users": "__all"}}]),
            ],
        ),
        types={"share_names.ann": "text"},
        words="travel costs berl",
    ),
    RealBody(
        name="Liferay: localized fields, phrases, and keyword fields in the same should",
        query=_bool(
            must=[
                _bool(
                    should=[
                        _bool(
                            must=[_match("localized_title_en_US", "annual leave")],
                            should=[{"match_phrase": {"localized_title_en_US": {"query": "annual leave", "boost": 2}}}],
                        ),
                        {"match_phrase_prefix": {"userName": {"query": "annual leave"}}},
                        _multi("annual leave", "assetTagNames.raw", "content_en_US", type="best_fields"),
                        _match("treePath", "annual leave"),
                    ]
                )
            ],
            filter=[{"term": {"companyId": "20101"}}],
        ),
        types={"treePath": "keyword"},
        words="annual leave",
    ),
    RealBody(
        name="Liferay with its rights as matches in the must",
        query=_bool(
            must=[
                _match("content_en_US", "annual leave"),
                {"match": {"entryClassName": "com.liferay.journal.model.JournalArticle"}},
                {"match": {"groupId": "20117"}},
                {"match": {"status": "0"}},
            ]
        ),
        types={"entryClassName": "keyword", "groupId": "keyword", "status": "keyword"},
        words="annual leave",
    ),
    RealBody(
        name="Drupal Search API: one query_string with boosts and fuzzy words",
        query=_bool(
            must=[
                {
                    "query_string": {
                        "query": "garden~ shed~",
                        "fields": ["title^8", "body^1", "field_tags^3"],
                        "default_operator": "AND",
                    }
                }
            ],
            filter=_bool(must=[{"term": {"_language": "en"}}, {"term": {"status": True}}]),
        ),
        words="garden shed",
    ),
    RealBody(
        name="reactivesearch: best fields, phrase and phrase prefix, a selected facet in the must",
        query=_bool(
            must=[
                _bool(
                    should=[
                        _multi("wireless mouse", "title^3", "title.search", type="best_fields", operator="or"),
                        _multi("wireless mouse", "title^3", "title.search", type="phrase", operator="or"),
                        _multi("wireless mouse", "title^3", type="phrase_prefix"),
                    ],
                    minimum_should_match="1",
                ),
                _bool(must=[_bool(should=[{"match": {"brand.keyword": "Acme Devices"}}])]),
            ]
        ),
        types={"brand.keyword": "keyword"},
        words="wireless mouse",
    ),
    RealBody(
        name="searchkit: combined fields of texts, a prefix search for what is being typed",
        query=_bool(
            must=[
                _bool(
                    should=[
                        _bool(
                            should=[
                                _multi("wireless mou", "title^3", "actors", fuzziness="AUTO:4,8"),
                                _multi("wireless mou", "title^3", "actors", type="bool_prefix"),
                            ]
                        ),
                        _multi("wireless mou", "title^3", "actors", type="phrase", operator="and"),
                    ]
                )
            ],
            filter=[_bool(should=[{"term": {"type.keyword": "movie"}}])],
        ),
        words="wireless mou",
    ),
    RealBody(
        name="search-ui: cross fields, phrase and phrase prefix",
        query=_bool(
            should=[
                _multi("wireless mouse", "title", "plot", type="best_fields", operator="and"),
                _multi("wireless mouse", "title", "plot", type="cross_fields"),
                _multi("wireless mouse", "title", "plot", type="phrase"),
                _multi("wireless mouse", "title", "plot", type="phrase_prefix"),
            ]
        ),
        words="wireless mouse",
    ),
    RealBody(
        name="OpenMetadata: words in texts, exact names in keywords, a tier as a scored term",
        query={
            "function_score": {
                "query": _bool(
                    should=[
                        _multi("customer orders", "displayName^15", "name^10", "description^1", fuzziness="1"),
                        _multi("customer orders", "displayName.keyword^25", "name.keyword^25", type="phrase"),
                        _match("fullyQualifiedName", "customer orders", boost=5),
                    ],
                    must=[{"match": {"deleted": False}}, {"match": {"entityType": "table"}}],
                ),
                "functions": [{"filter": {"term": {"tier.tagFQN": "Tier.Tier1"}}, "weight": 50}],
            }
        },
        types={"deleted": "boolean", "entityType": "keyword", "fullyQualifiedName": "keyword"},
        words="customer orders",
    ),
    RealBody(
        name="Pelias: grams, phrases with popularity, the country and layer as matches",
        query=_bool(
            must=[_match("name.default", "main street 12", analyzer="peliasQuery", boost=100)],
            should=[
                {"match_phrase": {"phrase.default": {"query": "main street 12", "slop": 2}}},
                {
                    "function_score": {
                        "query": {"match_phrase": {"phrase.default": {"query": "main street 12"}}},
                        "functions": [{"field_value_factor": {"field": "popularity"}}],
                        "boost_mode": "replace",
                    }
                },
                {"match": {"parent.country_a": "DEU"}},
                {"match": {"layer": "address"}},
            ],
        ),
        types={"parent.country_a": "keyword", "layer": "keyword"},
        words="main street 12",
    ),
    RealBody(
        name="a place search: the last word as a prefix, those before it in a terms_set",
        query=_bool(
            must=[
                {
                    "terms_set": {
                        "addr": {
                            "terms": ["main", "street"],
                            "minimum_should_match_script": {"source": "params.num_terms"},
                        }
                    }
                },
                _multi("berl", "addr", type="phrase_prefix"),
            ]
        ),
        types={"addr": "text"},
        words="main street berl",
    ),
    RealBody(
        name="a catalogue: whole words across fields, the last one as a prefix, exact names beside them",
        query=_bool(
            must=[
                _multi("cordless hammer", "name^6", "search_text^2", type="cross_fields", operator="and"),
                _multi("dri", "name^6", "search_text^2", "search_text._2gram", type="bool_prefix"),
            ],
            should=[
                {"term": {"normalized_name": {"value": "cordless hammer dri", "boost": 120}}},
                {"prefix": {"normalized_name": {"value": "cordless hammer dri", "boost": 25}}},
            ],
            filter=[{"term": {"tenant": "t1"}}],
        ),
        types={"normalized_name": "keyword", "search_text._2gram": "search_as_you_type"},
        words="cordless hammer dri",
    ),
    RealBody(
        name="names while they are typed: each word as a prefix, the exact name, and all words",
        query=_bool(
            must=[
                _multi(word, "name", "name._2gram", type="bool_prefix", operator="and") for word in ("Sales", "overv")
            ],
            should=[
                {"constant_score": {"filter": {"term": {"name.keyword": "Sales overv"}}}},
                _multi("Sales overv", "name", "name._2gram", type="bool_prefix", operator="and"),
            ],
        ),
        types={"name": "search_as_you_type", "name._2gram": "search_as_you_type", "name.keyword": "keyword"},
        words="Sales overv",
    ),
    RealBody(
        name="a shop: query expansion over names, colours that are keywords",
        query=_bool(
            must=[
                _bool(
                    should=[
                        {"match_phrase": {"name": {"query": "red dress", "boost": 300}}},
                        _match("color", "red dress", boost=200.0),
                        _multi("red dress", "name^10", "brand^5", type="cross_fields", minimum_should_match="80%"),
                        {"fuzzy": {"name": {"value": "dress", "fuzziness": "AUTO"}}},
                    ]
                )
            ],
            should=[{"match": {"color": "red"}}, {"match": {"in_stock": True}}, {"match": {"year": 2024}}],
        ),
        types={"color": "keyword", "in_stock": "boolean", "year": "integer", "name": "text"},
        words="red dress",
    ),
    RealBody(
        name="a word-by-word search: a term for each word",
        query=_bool(
            should=[
                {"term": {"body": "storm"}},
                {"term": {"body": {"value": "damage", "boost": 2}}},
                {"term": {"body": "roof"}},
            ],
            filter=[{"term": {"lang": "en"}}],
        ),
        types={"body": "text"},
        words="storm damage roof",
    ),
    RealBody(
        name="an archive: spans for phrases with wildcards, the kind of paper as a match",
        query=_bool(
            must=[
                {
                    "span_near": {
                        "clauses": [
                            {"span_term": {"text": "quantum"}},
                            {"span_multi": {"match": {"prefix": {"text": {"value": "entangle"}}}}},
                        ],
                        "slop": 0,
                        "in_order": True,
                    }
                },
                {"match": {"kind": "paper"}},
            ]
        ),
        types={"kind": "keyword"},
        words="quantum entangle",
    ),
    RealBody(
        name="a library: intervals in order, the year as a match",
        query=_bool(
            must=[
                {
                    "intervals": {
                        "text": {
                            "all_of": {
                                "ordered": True,
                                "intervals": [
                                    {"match": {"query": "my favourite food", "max_gaps": 0}},
                                    {"any_of": {"intervals": [{"match": {"query": "hot water"}}]}},
                                ],
                            }
                        }
                    }
                },
                {"match": {"year": "1987"}},
            ]
        ),
        types={"year": "short"},
        words="my favourite food hot water",
    ),
    RealBody(
        name="a help desk: more like the words of a ticket",
        query=_bool(
            must=[
                {
                    "more_like_this": {
                        "fields": ["subject", "body"],
                        "like": ["my printer is offline", {"_index": "tickets", "_id": "7"}],
                        "min_term_freq": 1,
                    }
                }
            ],
            should=[{"match": {"product": "printers"}}],
        ),
        types={"product": "constant_keyword"},
        words="my printer is offline",
    ),
    RealBody(
        name="a job board: texts of the newer kind, clauses for filtering with a boost of 0",
        query=_bool(
            must=[
                {"combined_fields": {"query": "nurse night shift", "fields": ["title^3", "text"], "operator": "and"}},
                {"match": {"city": {"query": "Hamburg", "boost": 0}}},
                _bool(must=[{"match": {"description": "temporary"}}], boost=0),
            ],
        ),
        types={"title": "match_only_text", "text": "match_only_text"},
        words="nurse night shift",
    ),
    RealBody(
        name="logs: a query_string of Kibana's bar, levels and hosts as fields",
        query=_bool(
            must=[
                {
                    "query_string": {
                        "query": 'level:error AND host.name:web-* AND message:"connection reset" AND bytes:[1 TO 9]',
                        "analyze_wildcard": True,
                    }
                }
            ]
        ),
        types={"level": "keyword", "host.name": "keyword", "message": "match_only_text"},
        words="connection reset",
    ),
)
