"""A configuration for nginx or Envoy: requests that may need a proxy go to the proxies, all others to the engine."""
