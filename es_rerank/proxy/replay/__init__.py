"""Sends a query set through the very steps that serve a search, and records the window of each query."""
