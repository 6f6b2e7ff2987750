"""A grid of settings: the values of alpha, method, window and score that are tried, in all combinations."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from itertools import product
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from es_rerank.fusion.fuse import Method
from es_rerank.judgment import ScoreRule
from es_rerank.tuning.errors import TuningError
from es_rerank.tuning.recording import Setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_SETTINGS = 10_000
FIELDS = ("alpha", "method", "window", "score")
CHOICES: dict[str, tuple[str, ...]] = {"method": get_args(Method), "score": get_args(ScoreRule)}
RANGE_KEYS = ("from", "to", "step")
BOUNDS = {"alpha": (0, 1), "window": (1, 1_000_000)}
FORMS = {
    "alpha": "numbers from 0 to 1, as a list or as a range such as 0:1:0.05",
    "window": "whole numbers from 1 on, as a list or as a range such as 10:100:10",
    "method": f"some of {', '.join(CHOICES['method'])}",
    "score": f"some of {', '.join(CHOICES['score'])}",
}


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """The values to try of each field, each once; an empty field stays as it is in the present setting."""

    alpha: tuple[float, ...] = ()
    method: tuple[Method, ...] = ()
    window: tuple[int, ...] = ()
    score: tuple[ScoreRule, ...] = ()

    def settings(self, present: Setting) -> tuple[Setting, ...]:
        """All combinations, alphas of one method, window and score side by side; the present setting first.

        Raises TuningError for more than 10,000.
        """
        values = (
            self.score or (present.score,),
            self.window or (present.window,),
            self.method or (present.method,),
            self.alpha or (present.alpha,),
        )
        count = 1
        for tried in values:
            count *= len(tried)
        if count > MAX_SETTINGS:
            raise TuningError(f"grid: has {count:,} settings; allowed are {MAX_SETTINGS:,}. Take fewer or wider steps")
        made = [
            Setting(score=score, window=window, method=method, alpha=alpha)
            for score, window, method, alpha in product(*values)
        ]
        return (present, *[setting for setting in made if setting != present])


def default_grid() -> Grid:
    """All methods with alphas from 0 to 1 in steps of 0.05; window and score as they are."""
    return parse_grid("alpha=0:1:0.05 method=zscore,minmax,rrf")


def parse_grid(text: str) -> Grid:
    """A grid from a command line: `alpha=0:1:0.05 method=zscore,rrf window=20,50,100 score=paper,expected`.

    Raises TuningError, which names the field.
    """
    found: dict[str, Any] = {}
    for part in text.split():
        name, sign, values = part.partition("=")
        if not sign or not values:
            raise TuningError(f"grid: {part!r} must be a field, = and its values, as in alpha=0:1:0.05")
        if name in found:
            raise TuningError(f"grid.{name}: is there twice")
        ends = values.split(":")
        found[name] = dict(zip(RANGE_KEYS, ends, strict=True)) if len(ends) == 3 else values.split(",")
    return grid_from(found)


def grid_from(body: Mapping[str, Any]) -> Grid:
    """A grid from JSON: `{"alpha": {"from": 0, "to": 1, "step": 0.05}, "method": ["zscore", "rrf"], "window": [50]}`.

    Numbers may be texts. Raises TuningError, which names the field.
    """
    if not isinstance(body, dict):
        raise TuningError(f"grid: must be an object with some of {', '.join(FIELDS)}, was {body!r}")
    for name in body:
        if name not in FIELDS:
            raise TuningError(f"grid.{name}: is unknown; allowed are {', '.join(FIELDS)}")
    values = {name: _values(name, given) for name, given in body.items()}
    return msgspec.convert(values, Grid)


def parse_setting(text: str, present: Setting) -> Setting:
    """One setting from a command line, `alpha=0.35 method=rrf`; what it does not name is as in the present setting.

    Raises TuningError.
    """
    grid = parse_grid(text)
    for name in FIELDS:
        if len(getattr(grid, name)) > 1:
            raise TuningError(f"{name}: must have one value here, was {text!r}")
    return grid.settings(present)[-1]


def _values(name: str, given: Any) -> tuple[Any, ...]:
    """The values of one field, each once, in the order given."""
    if name in CHOICES:
        known = CHOICES[name]
        if not isinstance(given, list) or not given or any(value not in known for value in given):
            raise _wrong(name, given)
        return tuple(dict.fromkeys(given))
    if isinstance(given, dict):
        numbers = _range(name, given)
    elif isinstance(given, list) and given:
        numbers = [_bounded(name, value) for value in given]
    else:
        raise _wrong(name, given)
    if name == "alpha":
        return tuple(dict.fromkeys(map(float, numbers)))
    for number in numbers:
        if number != int(number):
            raise _wrong(name, str(number))
    return tuple(dict.fromkeys(map(int, numbers)))


def _range(name: str, given: Mapping[str, Any]) -> Sequence[Decimal]:
    """The numbers of a range, its end included where a step falls on it. Decimal, so that 3 x 0.05 is 0.15."""
    if set(given) != set(RANGE_KEYS):
        raise TuningError(f"grid.{name}: a range has {', '.join(RANGE_KEYS)}, was {dict(given)!r}")
    start, end, step = _bounded(name, given["from"]), _bounded(name, given["to"]), _number(name, given["step"])
    if step <= 0 or end < start:
        raise TuningError(f"grid.{name}: a range rises by a step above 0, was from {start} to {end} by {step}")
    if step > end - start:
        return [start]
    if end - start >= step * MAX_SETTINGS:
        raise TuningError(f"grid.{name}: the range has more than {MAX_SETTINGS:,} values; allowed are as many settings")
    return [start + place * step for place in range(int((end - start) / step) + 1)]


def _bounded(name: str, value: Any) -> Decimal:
    """A number that the field can have, though perhaps not a whole one."""
    number, (low, high) = _number(name, value), BOUNDS[name]
    if not low <= number <= high:
        raise _wrong(name, value)
    return number


def _number(name: str, value: Any) -> Decimal:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            number = Decimal("nan")
        if number.is_finite():
            return number
    raise TuningError(f"grid.{name}: must be a number, was {value!r}")


def _wrong(name: str, given: Any) -> TuningError:
    return TuningError(f"grid.{name}: must be {FORMS[name]}, was {given!r}")
