"""Every method agrees with its golden numbers, in every key."""

import conformance
import pytest

from mmalign.testing.golden import golden_cases


@pytest.mark.parametrize("slug", conformance.done())
def test_every_key_matches_golden(slug: str) -> None:
    cases = golden_cases(conformance.GOLDEN / f"{slug}.json")
    for case, expected in cases:
        assert conformance.disagreements(expected, conformance.evaluate(slug, case)) == []
    assert cases


def test_an_unknown_method_has_no_outputs() -> None:
    assert conformance.evaluate("no-such-method", {}) == {}


def test_a_wrong_number_and_a_missing_key_are_told() -> None:
    assert conformance.disagreements({"a": [1.0, 2.0]}, {"a": [1.0, 2.0 + 1e-6]}) == [
        ".a[1]: expected 2.0, found 2.000001"
    ]
    assert "expected the keys ['a'], found []" in conformance.disagreements({"a": 1}, {})[0]
    assert conformance.disagreements({"n": 1}, {"n": True}) != []
