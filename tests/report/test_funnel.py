from mmalign.records import DroppedSample, Lineage, PreferencePair, Response, text_of, user
from mmalign.report.funnel import view_funnel


def pair(sample_id: str, rejected: str = "no") -> PreferencePair:
    return PreferencePair(
        sample_id=sample_id,
        prompt=(user("Is it?"),),
        chosen=Response(messages=(text_of("yes"),)),
        rejected=Response(messages=(text_of(rejected),)),
        lineage=Lineage(cost=0.5),
    )


def dropped(sample_id: str, reason: str, node: str = "check") -> DroppedSample:
    return DroppedSample(sample_id=sample_id, reason=reason, node=node, message=f"{reason}!")


def test_samples_in_are_kept_dropped_or_pending() -> None:
    view = view_funnel(
        {"num_in": 10},
        [pair("a"), pair("a", "never"), pair("b")],
        [dropped("c", "same"), dropped("d", "same"), dropped("e", "correct")],
    )
    assert (view.num_in, view.num_kept, view.num_pairs) == (10, 2, 3)
    assert (view.num_dropped, view.num_pending, view.kept_percent) == (3, 5, 20.0)
    assert [(drop.reason, drop.count, drop.percent) for drop in view.drops] == [
        ("same", 2, 20.0),
        ("correct", 1, 10.0),
    ]
    assert view.cost == 1.0


def test_a_sample_with_a_pair_is_kept_whatever_else_it_gave() -> None:
    view = view_funnel({}, [pair("a")], [dropped("a", "same"), dropped("b", "same")])
    assert (view.num_in, view.num_kept, view.num_dropped) == (2, 1, 1)


def test_examples_are_few_and_the_first_ones() -> None:
    view = view_funnel({}, [], [dropped(f"s{i}", "same") for i in range(9)])
    assert [item.sample_id for item in view.drops[0].examples] == ["s0", "s1", "s2"]


def test_nothing_in_is_no_division_by_zero() -> None:
    assert view_funnel({}, [], []).kept_percent == 0.0
