"""Recorded windows, and what is learned from them: measures, sweeps, comparisons, judgment lists. Asks no engine."""
