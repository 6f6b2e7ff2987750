"""A configuration for nginx or Envoy that brings to the proxies what may need them, and all else to the engine."""
