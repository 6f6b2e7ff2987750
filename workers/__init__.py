"""The worker: scores documents for queries."""
