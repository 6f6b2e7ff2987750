"""Where judgments come from: the cache, and the workers of a scorer. Knows no searches; only this knows Redis."""
