"""Grids of settings, from a command line and from JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.grid import FIELDS, default_grid, grid_from, parse_grid, parse_setting
from tests.tuning.cases import PRESENT, settings

if TYPE_CHECKING:
    from es_rerank.tuning.recording import Setting


def test_text_and_json_give_the_same_grid() -> None:
    """Both forms know lists and ranges; a range includes its end, in the very decimals that a person would write."""
    text = parse_grid("alpha=0:0.3:0.1 method=rrf,zscore window=20:50:15 score=expected")
    body = {
        "alpha": {"from": 0, "to": 0.3, "step": 0.1},
        "method": ["rrf", "zscore"],
        "window": {"from": 20, "to": 50, "step": 15},
        "score": ["expected"],
    }
    assert text == grid_from(body)
    assert text.alpha == (0.0, 0.1, 0.2, 0.3)
    assert text.window == (20, 35, 50)
    assert parse_grid("alpha=0:1:0.4").alpha == (0.0, 0.4, 0.8)
    assert grid_from({"alpha": [0.5, "0.5", 1]}).alpha == (0.5, 1.0)


def test_settings_are_all_combinations_with_the_present_one_first() -> None:
    """What a grid does not name stays as it is now, and the present setting is there once, wherever the grid has it."""
    tried = parse_grid("alpha=0,0.2 window=5,10").settings(PRESENT)
    assert tried[0] == PRESENT
    assert [(one.window, one.alpha) for one in tried[1:]] == [(5, 0.0), (5, 0.2), (10, 0.0)]
    assert len(parse_grid("alpha=0.9").settings(PRESENT)) == 2
    assert len(default_grid().settings(PRESENT)) == 3 * 21


@given(st.lists(settings(), min_size=1, max_size=4))
def test_any_setting_can_be_written_as_text(wanted: list[Setting]) -> None:
    """A setting's own values, written out, are that setting again."""
    for setting in wanted:
        text = " ".join(f"{name}={getattr(setting, name)}" for name in FIELDS)
        assert parse_setting(text, PRESENT) == setting


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha", "'alpha' must be a field, = and its values"),
        ("alpha=", "'alpha=' must be a field, = and its values"),
        ("alpha=0 alpha=1", r"grid\.alpha: is there twice"),
        ("beta=1", r"grid\.beta: is unknown; allowed are alpha, method, window, score"),
        ("alpha=x", r"grid\.alpha: must be a number, was 'x'"),
        ("alpha=nan", r"grid\.alpha: must be a number, was 'nan'"),
        ("alpha=1.2", r"grid\.alpha: must be numbers from 0 to 1, .*was '1.2'"),
        ("alpha=0:1", r"grid\.alpha: must be a number, was '0:1'"),
        ("alpha=0:1:0", r"grid\.alpha: a range rises by a step above 0, was from 0 to 1 by 0"),
        ("alpha=1:0:0.1", r"grid\.alpha: a range rises"),
        ("alpha=0:1:0.00001", r"grid\.alpha: the range has more than 10,000 values"),
        ("window=0", r"grid\.window: must be whole numbers from 1 on"),
        ("window=2.5", r"grid\.window: must be whole numbers from 1 on"),
        ("method=cosine", r"grid\.method: must be some of zscore, minmax, rrf, was \['cosine'\]"),
        ("score=0:1:1", r"grid\.score: must be some of paper, expected"),
    ],
)
def test_an_error_names_field_value_and_what_is_allowed(text: str, message: str) -> None:
    """A grid that can't be read is an error before anything is computed."""
    with pytest.raises(TuningError, match=message):
        parse_grid(text)


@pytest.mark.parametrize(
    "body",
    [
        [1], {"alpha": 0.5}, {"alpha": []}, {"alpha": [True]}, {"alpha": {"from": 0, "to": 1}}, {"alpha": [[1]]},
        {"window": [None]}, {"method": "rrf"}, {"method": []}, {"score": [["paper"]]}, {"window": ["1e999999999"]},
        {"alpha": {"from": 0, "to": 1, "step": {}}}, {"alpha": {"from": 0, "to": "1e999999999", "step": 1}},
        {"alpha": {"from": 0, "to": 1, "step": "1e-999999999"}},
    ],
)  # fmt: skip
def test_odd_json_is_refused(body: Any) -> None:
    """Whatever JSON comes, it is a grid or a clear error."""
    with pytest.raises(TuningError, match="grid"):
        grid_from(body)


def test_a_grid_has_a_bound() -> None:
    """More than 10,000 combinations are refused."""
    with pytest.raises(TuningError, match="has 30,300 settings; allowed are 10,000"):
        parse_grid("alpha=0:1:0.01 window=1:100:1 method=zscore,minmax,rrf").settings(PRESENT)


def test_one_setting_has_one_value_of_each_field() -> None:
    """A list where a single setting is meant is refused."""
    with pytest.raises(TuningError, match="alpha: must have one value here"):
        parse_setting("alpha=0,1", PRESENT)
