"""es-rerank's proxy under cProfile: `python bench/profiled.py CONFIG STATS`, which writes STATS when it is stopped.

For the benchmarks' `--profile`. Times are of the event loop's thread, and about twice what they are without a profiler.
"""

from __future__ import annotations

import cProfile
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# The last two so that no import is in the profile.
import es_rerank.proxy.app
import es_rerank.proxy.http.server  # noqa: F401
from es_rerank.cli import main

if __name__ == "__main__":
    config, stats = sys.argv[1:]
    profile = cProfile.Profile()
    code = profile.runcall(main, ["serve", "--config", config])
    profile.dump_stats(stats)
    sys.exit(code)
