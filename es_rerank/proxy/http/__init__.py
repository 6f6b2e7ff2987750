"""HTTP with callers: the server, one exchange, content codings, and what we answer ourselves. Knows no searches."""
