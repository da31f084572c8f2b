# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures, and what is told of two runs: what got worse, not what is noise or a slower hour."""

from __future__ import annotations

import json

import pytest

from harness.bench.figures import Figure, Results, check_comparable, flat, ratio, worse
from harness.errors import UsageError

STEADY = [1.0, 1.01, 1.02, 0.99, 1.0]
NOISY = [0.5, 1.6, 1.0, 0.7, 1.4]


def run(yardstick: float = 0.1, **figures: Figure) -> Results:
    return Results(about={}, yardstick_s=yardstick, figures=figures)


def seconds(*values: float) -> Figure:
    return Figure(unit="s", values=list(values))


def times(factor: float, values: list[float]) -> Figure:
    return seconds(*(factor * value for value in values))


def rate(*values: float) -> Figure:
    return Figure(unit="per min", values=list(values), larger_is_better=True)


def test_a_figure_is_its_median_between_its_quartiles() -> None:
    figure = seconds(5, 1, 2, 4, 3)
    assert (figure.median, figure.spread) == (3, (2, 4))


def test_few_values_spread_from_the_least_to_the_greatest() -> None:
    assert seconds(3, 1).spread == (1, 3)


def test_a_ratio_is_one_of_medians_with_the_pairs_as_spread() -> None:
    figure = ratio([10, 12, 11], [1, 1, 2])
    assert (figure.median, figure.spread) == (11, (5.5, 12))


@pytest.mark.parametrize(
    ("now", "before", "told"),
    [
        (run(a=times(1.5, STEADY)), run(a=times(1, STEADY)), ["a: 1.5 s, 1 expected (worse by 50%)"]),
        (run(a=times(1, STEADY)), run(a=times(1.5, STEADY)), []),
        (run(a=times(1.05, STEADY)), run(a=times(1, STEADY)), []),
        (run(a=times(1.5, NOISY)), run(a=times(1, NOISY)), []),
        (run(0.2, a=times(2, STEADY)), run(0.1, a=times(1, STEADY)), []),
        (run(0.1, a=times(1, STEADY)), run(0.2, a=times(1, STEADY)), ["a: 1 s, 0.5 expected (worse by 100%)"]),
        (run(a=rate(30, 30, 30)), run(a=rate(60, 60, 60)), ["a: 30 per min, 60 expected (worse by 100%)"]),
        (run(a=rate(30)), run(a=rate(60)), []),
        (run(a=rate(60, 60, 60)), run(a=rate(30, 30, 30)), []),
        (run(0.2, a=rate(30, 30, 30)), run(0.1, a=rate(60, 60, 60)), []),
        (run(0.2, a=Figure(unit="MB", values=[90] * 4)), run(0.1, a=Figure(unit="MB", values=[60] * 4)),
         ["a: 90 MB, 60 expected (worse by 50%)"]),
        (run(a=times(9, STEADY)), run(b=times(1, STEADY)), []),
    ],
)  # fmt: skip
def test_what_got_worse_is_told_and_neither_noise_nor_a_slower_machine(
    now: Results, before: Results, told: list[str]
) -> None:
    assert list(worse(now, before)) == told


def test_runs_of_another_kind_are_not_compared() -> None:
    before = Results(about={"kernel": "old"}, yardstick_s=1, figures={})
    check_comparable({"kernel": "old"}, before)
    with pytest.raises(UsageError, match=r"^runs of kernel old and new cannot be compared$"):
        check_comparable({"kernel": "new"}, before)


def test_what_is_printed_can_be_compared_with() -> None:
    results = run(a=times(1, STEADY), b=rate(60))
    printed = json.dumps({**results.model_dump(), **flat(results), "wrong": []})
    assert Results.load(printed, "x") == results
    assert flat(results) == {"a": 1.0, "b": 60}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"figures": {"a": 1}}', "\0"])
def test_what_is_no_output_of_a_bench_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^old\.json is no output of `harness bench --json`: ") as caught:
        Results.load(text, "old.json")
    assert "\n" not in str(caught.value)
