"""Where judgments come from: the cache and the workers of a scorer. Of the proxy, only this folder knows Redis."""
