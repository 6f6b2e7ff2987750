"""One search, as pure functions on frozen values: reading it, deciding, planning its window, writing its answer."""
