"""The indices of es-rerank itself: what is in them, and how they are made, written and read."""
