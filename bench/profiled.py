"""es-rerank's proxy under cProfile: `python bench/profiled.py CONFIG STATS`, which writes STATS when it is stopped.

The benchmarks' `--profile` uses it. It times the event loop's thread, and its times are about twice those without it.
"""

from __future__ import annotations

import cProfile
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# The last two are imported here so that no import is in the profile.
import es_rerank.proxy.app
import es_rerank.proxy.http.server  # noqa: F401
from es_rerank.cli import main

if __name__ == "__main__":
    config, stats = sys.argv[1:]
    profile = cProfile.Profile()
    code = profile.runcall(main, ["serve", "--config", config])
    profile.dump_stats(stats)
    sys.exit(code)
