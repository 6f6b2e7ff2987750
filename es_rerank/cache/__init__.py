"""The score cache: keys, and where scores are kept."""
