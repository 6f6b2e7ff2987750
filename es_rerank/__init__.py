"""es-rerank: a query proxy that reranks Elasticsearch and OpenSearch searches."""
