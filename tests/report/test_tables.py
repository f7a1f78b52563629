import math

from mmalign.records import Lineage, PreferencePair, Response, text_of, user
from mmalign.report.curves import sparkline, view_curves
from mmalign.report.lineage import view_lineage
from mmalign.report.tokens import view_tokens


def pair(tags: dict[str, str]) -> PreferencePair:
    return PreferencePair(
        sample_id="s",
        prompt=(user("?"),),
        chosen=Response(messages=(text_of("a"),)),
        rejected=Response(messages=(text_of("b"),)),
        lineage=Lineage(tags=tags),
    )


def test_lineage_joins_the_pairs_tags_with_the_trainers_metrics() -> None:
    log = [{"step": i, "lineage/type=color/loss": float(8 - i)} for i in range(8)]
    log.append({"step": 8, "lineage/type=color/loss": math.nan})
    log.append({"step": 9, "lineage/type=count/rewards/accuracies": 0.5})
    rows = {row.value: row for row in view_lineage([pair({"type": "color"})] * 3, log)}
    assert (rows["color"].num_pairs, rows["color"].loss) == (3, 1.5)  # mean of 2 and 1
    assert (rows["count"].num_pairs, rows["count"].accuracy, rows["count"].loss) == (0, 0.5, None)


def test_a_key_with_a_value_per_pair_is_no_kind() -> None:
    assert view_lineage([pair({"clip": f"c{i}"}) for i in range(40)], []) == ()


def test_charts_are_drawn_of_what_was_logged_more_than_once() -> None:
    log = [{"step": i, "loss": 1.0 / i, "kl": math.nan} for i in range(1, 4)]
    log[0]["rewards/margins"] = 1.0
    charts = view_curves(log)
    assert [chart.title for chart in charts] == ["Loss"]
    assert charts[0].last == (("loss", "0.333", "main"),)
    assert 'aria-label="Loss: loss from 1 to 0.333"' in charts[0].svg


def test_a_constant_curve_and_a_long_curve_can_be_drawn() -> None:
    flat = view_curves([{"step": i, "learning_rate": 1e-6} for i in range(2)])[0]
    assert "nan" not in flat.svg
    long = view_curves([{"step": i, "loss": 1.0 + i % 2} for i in range(10_000)])[0]
    assert len(long.svg) < 40_000
    assert "10000" not in long.svg
    assert ">9999<" in long.svg


def test_values_lie_inside_the_picture() -> None:
    svg = view_curves([{"step": i, "loss": value} for i, value in enumerate([-3.2, 7.9, 0.4])])[
        0
    ].svg
    points = svg.split('points="')[1].split('"')[0].split()
    assert all(0 <= float(number) <= 360 for point in points for number in point.split(","))


def test_a_sparkline_needs_two_finite_values() -> None:
    assert sparkline([1.0, math.nan]) == ""
    assert sparkline([1.0, 2.0]).count(",") == 2


def test_the_plan_becomes_rows_and_facts() -> None:
    plan = {
        "percentiles": {"media_tokens": {"p50": 1200, "max": 2400}, "text_tokens": {"max": 9}},
        "records": [{}] * 4000,
        "too_long": ["a"],
        "memory": {"weights": 3 * 2**20, "batch_size": None},
    }
    table = view_tokens(plan)
    assert table is not None
    assert table.columns == ("median", "longest")
    assert table.rows == (("media", (1200, 2400)), ("text", (None, 9)))
    assert dict(table.facts) == {
        "Samples": "4,000",
        "Too long": "1",
        "Unreadable": "0",
        "Memory at the peak": "3 MiB",
        "Memory by part, MiB": "weights 3",
    }
    assert view_tokens(None) is None
