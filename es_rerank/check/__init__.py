"""What `es-rerank check-config` does: what a configuration means, and what it finds on its engine."""
