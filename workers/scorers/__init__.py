"""Scorers: the contract and the models that keep it."""
