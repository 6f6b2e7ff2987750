"""The kinds of scorers, as the proxy has to know them: settings, abilities, fingerprint. One file a kind."""
