"""The demo: the production path on embedded parts, shown on real questions.

client → proxy → engine's BM25 top 100 → Redis score cache → Celery worker → fusion → hits. Owns the order of events;
proxy and worker are the ordinary commands, in processes of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from es_rerank.demo.corpus import read_documents
from es_rerank.demo.embedded import start_engine, start_redis
from es_rerank.demo.processes import ProcessError, Supervisor, free_port, is_listening
from es_rerank.demo.questions import JudgedQuestions, Question, read_questions
from es_rerank.demo.report import Answered, Thought, pick_examples, side_by_side, table_of_means, thoughts
from es_rerank.demo.tuning import requests_of, tune
from es_rerank.official.client import Client, connect
from es_rerank.official.login import API_KEY_VARIABLE, ApiKey, Password

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import FrameType

    from es_rerank.demo.corpus import Document
    from es_rerank.demo.scorers import DemoScorer

INDEX = "rerank-demo"
FIELDS = ("words", "text")
START_LIMIT_S = 60.0
WATCH_S = 0.5
PR_SET_PDEATHSIG = 1
CONFIG = """\
# Written by `es-rerank demo`.
[upstream]
urls = ["{engine_url}"]
{ca_file}
[redis]
url = "redis://127.0.0.1:{redis_port}/0"
[server]
host = "127.0.0.1"
port = {port}
[limits]
max_deadline_s = 120.0
{store}{tables}[[rules]]
name = "python-docs"
indices = ["{index}"]
fields = {fields}
window = {window}
deadline_s = {deadline_s}
{rule}"""


class Demo:
    """One run of the demo.

    `scorer` judges the documents. `directory` keeps Redis's data, logs and the configuration between runs. Without an
    `engine_url` the embedded engine is started; `login` and `ca_file` are for an engine of the user's. With `stay` it
    goes on serving until it is told to stop.
    """

    def __init__(
        self,
        *,
        scorer: DemoScorer,
        directory: Path,
        port: int,
        engine_url: str | None,
        login: Password | ApiKey | None,
        ca_file: Path | None,
        stay: bool,
    ) -> None:
        self._scorer = scorer
        self._directory = directory.resolve()
        self._port = port
        self._engine_url = engine_url
        self._login = login
        self._ca_file = ca_file
        self._stay = stay

    def run(self) -> int:
        """Show everything and return 0. Raises EsRerankError. However it ends, no process that it started is left."""
        for ending in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, _stop)
        if is_listening(self._port):
            raise ProcessError(f"port {self._port} is taken: stop what listens there, or choose another by --port")
        if self._engine_url is not None:
            self._connect(self._engine_url).close()  # an engine that can't be used is found before anything starts
        if self._scorer.said_first:
            _say(self._scorer.said_first)
        with Supervisor(self._directory / "logs") as supervisor:
            engine_url = self._start_parts(supervisor)
            documents = self._load(engine_url)
            judged = read_questions({document.id for document in documents})
            asked = judged.questions[: self._scorer.questions]
            answers = self._ask(engine_url, asked)
            if self._scorer.shows_reasoning:
                self._show_thoughts(answers)
                [again] = self._ask(engine_url, asked[:1])
                print(f"Asked again, from the cache:\n{thoughts(again)}", end="\n\n")
            else:
                self._show(answers, judged)
            print(self._scorer.said_last, flush=True)
            if self._tunes:
                self._tune(asked)
            if self._stay:
                with contextlib.suppress(KeyboardInterrupt):
                    self._serve_on(supervisor, judged.questions[0])
        return 0

    @property
    def _tunes(self) -> bool:
        """Whether tuning is shown. It writes indices of es-rerank, which only the demo's own engine has to keep."""
        return self._engine_url is None and not self._scorer.shows_reasoning

    @property
    def _proxy_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _tune(self, questions: Sequence[Question]) -> None:
        """Let a sweep say whether another setting were better."""
        with contextlib.closing(self._connect(self._proxy_url)) as proxy:
            sweep, verdict = tune(proxy, INDEX, questions)
        print(
            f"\nTuning: the questions were replayed, and sweep {sweep} tried other settings on what was recorded,\n"
            f"without asking the model again. It says:\n  {verdict}",
            flush=True,
        )

    def _start_parts(self, supervisor: Supervisor) -> str:
        """Start Redis, the engine, a worker and the proxy. Returns the engine's URL."""
        redis_port = free_port()
        _say("starting Redis" + ("" if self._engine_url else ", the embedded engine") + ", a worker and the proxy")
        start_redis(supervisor, redis_port, self._directory / "redis")
        engine_url = self._engine_url
        if engine_url is None:
            engine_port = free_port()
            start_engine(supervisor, engine_port)
            engine_url = f"http://127.0.0.1:{engine_port}"
        config = self._directory / "es-rerank.toml"
        config.write_text(
            CONFIG.format(
                engine_url=engine_url,
                ca_file=f"ca_file = {json.dumps(str(self._ca_file.resolve()))}" if self._ca_file else "",
                redis_port=redis_port,
                port=self._port,
                index=INDEX,
                fields=json.dumps(FIELDS),
                window=self._scorer.window,
                deadline_s=self._scorer.deadline_s,
                store="[store]\n" if self._tunes else "",
                tables=self._scorer.tables,
                rule=self._scorer.rule,
            )
        )
        command = ["-m", "es_rerank"]
        worker = supervisor.start("worker", [self._scorer.python, *command, "worker", "--config", str(config)])
        proxy = supervisor.start("proxy", [sys.executable, *command, "serve", "--config", str(config)])
        supervisor.await_ready(proxy, lambda: is_listening(self._port), limit_s=START_LIMIT_S)
        supervisor.await_ready(
            worker, lambda: self._health().get("reranking", False), limit_s=self._scorer.start_limit_s
        )
        return engine_url

    def _connect(self, url: str) -> Client:
        """The official client for the engine, or for the proxy before it: with the same login."""
        return connect(url, login=self._login, ca_file=self._ca_file if url.startswith("https:") else None)

    def _health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/_es_rerank/health", timeout=10) as reply:
                state: dict[str, Any] = json.load(reply)
                return state
        except (urllib.error.URLError, OSError):
            return {}

    def _load(self, engine_url: str) -> Sequence[Document]:
        """Read this interpreter's documentation and load it into the engine."""
        from ingest.load import load_documents  # noqa: PLC0415  a package beside this one
        from ingest.mapping import text_mapping  # noqa: PLC0415  as above

        _say(f"reading the documentation of Python {sys.version_info.major}.{sys.version_info.minor}")
        documents = read_documents()
        with contextlib.closing(self._connect(engine_url)) as client:
            report = load_documents(
                client,
                INDEX,
                ((document.id, _source(document)) for document in documents),
                text_mapping(("name", *FIELDS)),
                recreate=True,
                total_count=len(documents),
            )
        _say(f"loaded {report.indexed} documents in {report.took_s:.1f} s, {report.refused} refused")
        return documents

    def _ask(self, engine_url: str, questions: Sequence[Question]) -> list[Answered]:
        """Ask every question twice: the engine itself, and the proxy, by the same client library."""
        direct, proxied = self._connect(engine_url), self._connect(self._proxy_url)
        answers = []
        began_s = time.monotonic()
        cached = scored = 0
        for question in tqdm(questions, desc="asking", unit="question", file=sys.stderr):
            search: dict[str, Any] = {
                "query": {"multi_match": {"query": question.text, "fields": list(FIELDS)}},
                "size": self._scorer.window,
                "_source": False,
            }
            include = ["status", *(["scores", "reasoning"] if self._scorer.shows_reasoning else [])]
            before = direct.search(index=INDEX, body=search)
            after = proxied.search(index=INDEX, body={**search, "ext": {"es_rerank": {"include": include}}})
            status = after["_es_rerank"]
            if status["status"] != "full":
                raise ProcessError(f"{question.text!r} was not reranked in full: {json.dumps(status)}")
            cached += status["cached"]
            scored += status["scored"]
            answers.append(
                Answered(
                    question=question,
                    engine_order=_names(before),
                    reranked_order=_names(after),
                    thoughts=_thoughts(after) if self._scorer.shows_reasoning else (),
                )
            )
        _say(
            f"{len(questions)} questions in {time.monotonic() - began_s:.1f} s; "
            f"{cached} of {scored} scores came from the cache\n"
        )
        return answers

    def _show(self, answers: Sequence[Answered], judged: JudgedQuestions) -> None:
        print("Three questions that gained most, and the one that lost most.")
        print("** answers the question, * is related, ? was not judged\n")
        for answered in pick_examples(answers):
            print(side_by_side(answered), end="\n\n")
        print(table_of_means(answers))
        if judged.skipped_names:
            print(f"{judged.skipped_names} judged names are not in this Python and were skipped.")
        if self._engine_url is None:
            print(
                "The embedded engine shows the path, not figures: its ranking is weaker than Lucene's, which flatters\n"
                "any reranker. For figures run it on a real one: es-rerank demo --engine URL"
            )

    def _show_thoughts(self, answers: Sequence[Answered]) -> None:
        """Show the thinking about the first hits of two questions, and one order; means would say nothing."""
        print("** answers the question, * is related, ? was not judged\n")
        print(side_by_side(answers[0]), end="\n\n")
        for answered in answers[:2]:
            print(thoughts(answered), end="\n\n")

    def _serve_on(self, supervisor: Supervisor, question: Question) -> None:
        """Stay up until Ctrl-C, or until a part ends by itself."""
        body = {
            "query": {"multi_match": {"query": question.text, "fields": list(FIELDS)}},
            "_source": ["name"],
            "size": 3,
            "ext": {"es_rerank": {"include": ["status", "scores"]}},
        }
        login = ""
        if isinstance(self._login, Password):
            login = f" -u {self._login.user}"
        elif self._login is not None:
            login = f' -H "authorization: ApiKey ${API_KEY_VARIABLE}"'
        print(
            f"\nStill up on {self._proxy_url} (Ctrl-C ends it). Try:\n\n"
            f"curl -s{login} '{self._proxy_url}/{INDEX}/_search?pretty' \\\n"
            f"  -H 'content-type: application/json' -d '{json.dumps(body)}'",
            flush=True,
        )
        if self._tunes:
            print(f"\nTo tune (docs/replays.md):\n\n{requests_of(self._proxy_url, INDEX)}", flush=True)
        while True:
            ended = supervisor.ended()
            if ended is not None:
                raise ProcessError(
                    f"{ended.name} ended by itself with code {ended.process.returncode}:\n{ended.tail()}"
                )
            time.sleep(WATCH_S)


def end_with_parent() -> None:
    """Have this process told to stop when its parent ends, even by SIGKILL."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended in between
        raise SystemExit(1)


def _stop(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _source(document: Document) -> dict[str, Any]:
    return {"name": document.name, "words": document.words, "kind": document.kind, "text": document.text}


def _thoughts(answer: Any) -> list[Thought]:
    return [
        Thought(
            name=hit["_id"],
            reasoning=said["reasoning"] or "",
            think_tokens=said["think_tokens"],
            rank_score=said["rank_score"],
            mass=said["mass"],
        )
        for hit in answer["hits"]["hits"]
        if "mass" in (said := hit["_es_rerank"])
    ]


def _names(answer: Any) -> list[str]:
    return [hit["_id"] for hit in answer["hits"]["hits"]]
