"""The official clients: which fits an engine, how it logs in, what its errors mean, how a busy one is waited for."""
