"""The commands that learn from recordings: `es-rerank sweep`, `es-rerank compare` and `es-rerank runs export`."""
