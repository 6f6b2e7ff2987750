"""Loads documents into Elasticsearch or OpenSearch: the command `es-rerank ingest`, and `load_documents`."""
