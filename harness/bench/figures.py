# SPDX-License-Identifier: GPL-2.0-or-later
"""Measured figures: medians with their spread, and what of them got worse beyond the noise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from pydantic import BaseModel, ValidationError

from harness.errors import UsageError

_WORSE_BY = 0.10
"""The least part by which a median must be worse to be worth telling."""
_ENOUGH = 3
"""Values of which the spread says something of the noise."""
_OF_ONE_KIND = ("kernel", "release", "qemu", "accel", "parameters")
_YARDSTICK_TURNS = 1_000_000


class Figure(BaseModel):
    """One thing that was measured, several times. Smaller is better, but for a rate or a ratio."""

    unit: str
    values: list[float]
    larger_is_better: bool = False

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles: half of the values are between them. Of very few values, the least and the greatest."""
        if len(self.values) < 4:  # quartiles of less are guesses
            return min(self.values), max(self.values)
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high


class Results(BaseModel):
    """All figures of one run, and of what machine they are."""

    about: dict[str, object]
    yardstick_s: float
    figures: dict[str, Figure]

    @classmethod
    def load(cls, text: str, origin: str) -> Self:
        """Read what `harness bench --json` printed; raises `UsageError` naming `origin`."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "all of it"
            raise UsageError(f"{origin} is no output of `harness bench --json`: {where}: {first['msg']}") from error


def yardstick() -> float:
    """Give the seconds that a fixed piece of work takes here and now: the speed of the machine, to compare runs by."""
    started = time.perf_counter()
    total = 0
    for number in range(_YARDSTICK_TURNS):
        total += number
    return time.perf_counter() - started


def ratio(over: Sequence[float], under: Sequence[float]) -> Figure:
    """Give the ratio of two medians, with a spread from the pairs of values in the order in which they were taken."""
    middle = statistics.median(over) / statistics.median(under)
    pairs = sorted(one / other for one, other in zip(over, under, strict=False))
    return Figure(unit="x", values=[pairs[0], middle, pairs[-1]], larger_is_better=True)


def check_comparable(now: Mapping[str, object], before: Results) -> None:
    """Raise `UsageError` where a run of what `now` describes says nothing of another kernel, QEMU or accelerator."""
    for name in _OF_ONE_KIND:
        if now.get(name) != before.about.get(name):
            raise UsageError(f"runs of {name} {before.about.get(name)} and {now.get(name)} cannot be compared")


def worse(now: Results, before: Results) -> Iterator[str]:
    """Say what got worse from one run to another by more than either spread explains.

    Times are first divided by how long the yardstick took, so that a slow hour of the machine is not held against
    the harness.
    """
    speed = now.yardstick_s / before.yardstick_s
    for name, figure in now.figures.items():
        old = before.figures.get(name)
        if old is None or min(len(figure.values), len(old.values)) < _ENOUGH:
            continue
        factor = _expected(figure, speed)
        was, (was_low, was_high) = old.median * factor, (edge * factor for edge in old.spread)
        low, high = figure.spread
        grown = figure.median / was - 1 if not figure.larger_is_better else was / figure.median - 1
        apart = high < was_low if figure.larger_is_better else low > was_high
        if apart and grown > _WORSE_BY:
            yield f"{name}: {figure.median:.3g} {figure.unit}, {was:.3g} expected (worse by {grown:.0%})"


def _expected(figure: Figure, speed: float) -> float:
    """Give the factor by which a figure changes on a machine that takes `speed` times as long."""
    return {"s": speed, "us": speed, "per min": 1 / speed, "per s": 1 / speed}.get(figure.unit, 1.0)


def flat(results: Results) -> Mapping[str, float]:
    """Give the medians under the names of their figures."""
    return {name: figure.median for name, figure in results.figures.items() if figure.values}
