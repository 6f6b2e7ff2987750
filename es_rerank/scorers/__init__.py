"""What the proxy has to know of each kind of scorer: settings, abilities, fingerprint. One file for each kind."""
