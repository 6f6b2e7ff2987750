"""The demo: the production path on embedded parts."""
