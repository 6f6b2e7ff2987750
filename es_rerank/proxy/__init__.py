"""The proxy: everything between a client and its engine."""
