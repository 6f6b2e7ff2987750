"""What a worker tells Prometheus: one registry and one exporter in each worker process.

vLLM adds its own figures, named `vllm:...`, to the same registry. Labels never hold what users wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from workers.errors import WorkerStartError

if TYPE_CHECKING:
    from es_rerank.judgment import Judgment
    from es_rerank.tables import MetricsSettings

SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)
TOKENS = (1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

QUERIES = Counter("es_rerank_queries", "Queries served, by how they ended.", ["end"])
RUNNING = Gauge("es_rerank_queries_running", "Queries in work now.")
QUEUE_WAIT = Histogram("es_rerank_queue_wait_seconds", "From sending a query until a worker takes it.", buckets=SECONDS)
SCORING = Histogram("es_rerank_scoring_seconds", "From taking a query until its last score.", buckets=SECONDS)
DOCUMENTS = Counter(
    "es_rerank_documents", "Documents by where their score came from: cache, other, scored, failed.", ["source"]
)
PREFILL_TOKENS = Counter(
    "es_rerank_prefill_tokens", "Prompt tokens, by whether the engine had them already.", ["stage", "cached"]
)
DECODE_TOKENS = Counter("es_rerank_decode_tokens", "Tokens that the model thought.")
THINKING = Histogram("es_rerank_thinking_tokens", "Length of a document's finished or cut thinking.", buckets=TOKENS)
CUT = Counter("es_rerank_cut", "Judgments whose thinking was cut, by what cut it.", ["by"])
LOW_MASS = Counter("es_rerank_low_mass", "Judgments of a model that was about to answer something else (malformed).")
TRUNCATED = Counter("es_rerank_truncated", "Judgments of a query or document that was longer than the model is given.")
JUDGMENTS = Counter("es_rerank_judgments", "Judgments made: the total for the ratios of cut and low mass.")


def note_judgment(judgment: Judgment) -> None:
    """Count a judgment that was just made."""
    JUDGMENTS.inc()
    if judgment.distribution is not None and judgment.think_tokens:
        THINKING.observe(judgment.think_tokens)
    if judgment.cut:
        CUT.labels(judgment.cut).inc()
    if judgment.low_mass:
        LOW_MASS.inc()
    if judgment.truncated:
        TRUNCATED.inc()


def note_prefill(stage: str, *, prompt_tokens: int, cached_tokens: int) -> None:
    """Count a prompt of one stage, `think` or `read`."""
    PREFILL_TOKENS.labels(stage, "true").inc(cached_tokens)
    PREFILL_TOKENS.labels(stage, "false").inc(max(0, prompt_tokens - cached_tokens))


def start_exporter(settings: MetricsSettings) -> int | None:
    """Serve the figures until the process ends. Returns the port, None where none is set. Raises WorkerStartError."""
    if settings.port is None:
        return None
    try:
        server, _ = start_http_server(settings.port, addr=settings.host)
    except OSError as error:
        raise WorkerStartError(
            f"metrics.port = {settings.port}: the worker cannot listen on it ({error.strerror}). Each worker on a "
            "machine needs a port of its own, set by ES_RERANK__METRICS__PORT; 0 takes any free one"
        ) from error
    return int(server.server_port)
