"""Events: what is told of each reranked search, written to the engine behind the searches."""
