"""Files of grades, in any form that `es_rerank.tuning.forms` reads, packed by gzip or not."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

from es_rerank.trec import is_csv
from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.forms import form_of, read_grades
from es_rerank.tuning.judged import PEOPLE

if TYPE_CHECKING:
    from pathlib import Path

    from es_rerank.tuning.forms import Form
    from es_rerank.tuning.judged import Grade


def read_grade_file(
    file: Path, form: Form | None = None, *, queries: Path | None = None, source: str = PEOPLE, index: str = ""
) -> tuple[Grade, ...]:
    """The grades of a file, see `read_grades`; without `form` it is the one that name and first line show.

    `queries` is BEIR's queries.jsonl, which has the words of a file with ids. Raises TuningError for a file that can't
    be read, and JudgmentListError.
    """
    text = _text(file)
    if queries is not None:
        text, form = _text(queries) + b"\n" + text, "beir"
    return read_grades(str(file), text, form or form_of(text, is_csv=is_csv(file)), source=source, index=index)


def _text(file: Path) -> bytes:
    try:
        text = file.read_bytes()
        return gzip.decompress(text) if file.suffix == ".gz" else text
    except (OSError, EOFError, zlib.error) as error:
        raise TuningError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
