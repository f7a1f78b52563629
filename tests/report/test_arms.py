import pytest

from mmalign.report.arms import Estimate, MetricRow, axis_of, compare
from mmalign.report.run_folder import Arm


def arm(name: str, value: float, low: float, high: float) -> Arm:
    return Arm(
        name=name,
        metric="overall",
        metrics={"basic": 90.0, "overall": value},
        intervals={"overall": (low, high)},
        counts={},
        subsets={"color": {"overall": value + 1}},
        subset_intervals={},
    )


def test_the_metric_that_counts_comes_first_with_its_difference() -> None:
    comparison = compare({"before": arm("before", 30, 25, 35), "after": arm("after", 42, 36, 48)})
    assert comparison is not None
    assert [row.name for row in comparison.overall] == ["overall", "basic"]
    assert comparison.main is not None
    assert comparison.main.difference == 12.0
    assert comparison.subsets["color"][0].difference == 12.0


def test_what_is_not_measured_per_subset_is_no_share_of_right_answers() -> None:
    comparison = compare({"before": arm("before", 30, 25, 35), "after": arm("after", 42, 36, 48)})
    assert comparison is not None
    assert [row.name for row in comparison.shares] == ["overall"]


def test_one_arm_has_no_difference_and_no_arm_no_comparison() -> None:
    comparison = compare({"before": arm("before", 30, 25, 35)})
    assert comparison is not None
    assert comparison.main is not None
    assert comparison.main.difference is None
    assert compare({}) is None


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([33.8, 49.6], 20, 60), ([3.0], 0, 40), ([99.0, 100.0], 60, 100), ([0.0, 100.0], 0, 100)],
)
def test_the_axis_is_made_of_tens_and_holds_every_value(
    values: list[float], low: float, high: float
) -> None:
    axis = axis_of([MetricRow("m", tuple(Estimate("a", value) for value in values))])
    assert (axis.low, axis.high) == (low, high)
    assert all(0 <= axis.at(value) <= 100 for value in values)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
