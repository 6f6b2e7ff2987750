"""The figures of the pass-through bench, computed by hand, and its loads."""

from __future__ import annotations

import json
import subprocess
import sys
from cProfile import Profile
from typing import TYPE_CHECKING

from bench.passthrough import FREE, GET, SORTED, goals, table
from bench.stack import Sample
from bench.system import ROOT, checkouts, hot_spots, rotated, spread, verdict
from es_rerank.proxy.search.decide import FOREIGN_BODY_KEYS

if TYPE_CHECKING:
    from pathlib import Path


def samples(*rounds: tuple[float, float]) -> list[Sample]:
    """Rounds of requests/s and CPU seconds for 1000 requests."""
    return [Sample(requests_per_s=rate, cpu_s_per_1000=cpu_s, cores=1.0) for rate, cpu_s in rounds]


MEASURED = {
    GET.name: {
        "(no proxy)": samples((4000, 0), (4000, 0), (4000, 0)),
        "nginx": samples((2000, 0.02), (1000, 0.02), (4000, 0.02)),
        "es-rerank": samples((1000, 0.1), (1000, 0.1), (1000, 0.2)),
    },
    FREE.name: {
        "(no proxy)": samples((4000, 0), (4000, 0), (4000, 0)),
        "nginx": samples((1000, 0.02), (1000, 0.02), (1000, 0.04)),
        "es-rerank": samples((600, 0.1), (640, 0.13), (900, 0.4)),
    },
}


def test_ratios_are_of_the_same_round() -> None:
    """0.5, 1 and 0.25 of nginx have the median 0.5; CPU stands beside nginx's and that of the proxy's own GET."""
    lines = table(MEASURED).splitlines()
    assert len(lines) == 8
    assert lines[4] == (
        "| GET of a document | es-rerank | 1,000 (1,000 to 1,000) | 0.500 (0.250 to 1.000) "
        "| 0.100 (0.100 to 0.200) | 5.0 (5.0 to 10.0) | 1.00 (1.00 to 1.00) |"
    )
    assert lines[7].endswith("| 0.130 (0.100 to 0.400) | 6.5 (5.0 to 10.0) | 1.30 (1.00 to 2.00) |")


def test_an_engine_has_no_proxy_whose_cpu_counts() -> None:
    """Its cells are empty, not 0."""
    [line, _] = [line for line in table(MEASURED).splitlines() if "(no proxy)" in line]
    assert line.endswith("| 2.000 (1.000 to 4.000) |  |  |  |")


def test_goals_are_held_against_medians() -> None:
    """0.64 of nginx misses 0.65, 1.3 times the CPU of a GET keeps 1.3; a free engine has no goal for requests/s."""
    rate, cpu = goals(MEASURED, real=True).splitlines()
    assert rate.endswith("0.640 (0.600 to 0.900); the goal is at least 0.65: **missed**")
    assert cpu.endswith("1.30 (1.00 to 2.00); the goal is at most 1.3: kept")
    assert goals(MEASURED, real=False) == cpu


def test_the_loads_are_what_they_are_called() -> None:
    """Half a kilobyte, no feature that names another reason, and the sort is all that differs."""
    free, ordered = json.loads(FREE.body or b""), json.loads(SORTED.body or b"")
    assert 450 < len(FREE.body or b"") < 550
    assert not set(FOREIGN_BODY_KEYS) & free.keys()
    assert ordered.pop("sort") == [{"year": "asc"}]
    assert ordered == free


def test_every_candidate_is_the_first_in_turn() -> None:
    """The order rotates from turn to turn."""
    assert [list(rotated("abc", turn)) for turn in (0, 1, 5)] == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]


def test_a_spread_is_a_median_with_its_ends() -> None:
    """With thousands set apart, and digits as asked for."""
    assert spread([1200, 800, 30000], 0) == "1,200 (800 to 30,000)"
    assert verdict("x", [1.0, 4.0], digits=1, most=2.0) == "- x: 2.5 (1.0 to 4.0); the goal is at most 2: **missed**"


def test_the_command_of_a_checkout_runs_its_own_code(tmp_path: Path) -> None:
    """Whatever is installed and wherever the bench was started, the package comes from that folder."""
    package = tmp_path / "es_rerank"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys\nprint(__file__, *sys.argv[1:])\n")
    ours, other = checkouts(tmp_path)
    assert (ours.root, other.name) == (ROOT, "before")
    said = subprocess.run(other.command("serve"), capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said.split() == [str(package / "__main__.py"), "serve"]


def test_a_profile_leaves_out_what_was_not_called_for_each_request(tmp_path: Path) -> None:
    """Ten requests: what ran ten times is shown for one, what ran once is not."""

    def answer() -> None:
        sorted([2, 1])

    def serve() -> None:
        for _ in range(10):
            answer()

    profile = Profile()
    profile.runcall(serve)
    profile.dump_stats(tmp_path / "stats")
    shown = hot_spots(tmp_path / "stats", 10)
    assert shown.count("| 1.0 | `bench/test_passthrough.py:") == 2
    assert " answer`" in shown
    assert " serve`" not in shown


def test_another_folder_is_no_checkout(tmp_path: Path) -> None:
    """Said before anything is started."""
    script = str(ROOT / "bench" / "passthrough.py")
    command = [sys.executable, script, "--before", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2)  # 2 where nginx or wrk is missing
    assert "no checkout of es-rerank" in done.stderr or "is not on PATH" in done.stderr
