"""What can be wrong with a request to learn something from recordings; the text says what to change."""

from __future__ import annotations

from importlib.util import find_spec

from es_rerank.errors import EsRerankError

PACKAGES = ("ir_measures", "numpy")


class TuningError(EsRerankError):
    """A sweep, a comparison or an export can't be made as asked; the text names the field and what is allowed."""


def check_installed() -> None:
    """Raise TuningError unless the packages for measures and significance are there. They are no base dependency."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise TuningError(f"{' and '.join(missing)} missing: measures need `pip install 'es-rerank[tuning]'`")
