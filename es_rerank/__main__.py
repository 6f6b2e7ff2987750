"""`python -m es_rerank` is the command `es-rerank`."""

from __future__ import annotations

import sys

from es_rerank.cli import main

if __name__ == "__main__":
    sys.exit(main())
