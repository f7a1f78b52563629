"""What a tool said inside a response carries no loss, whatever learns from it."""

import pytest
from pydantic import ValidationError

from mmalign.media import FrameSampling
from mmalign.records import LabelledResponse, PreferencePair, Response, text_of, user
from mmalign.testing.tiny_models import tiny_causal_lm
from mmalign.training.examples import Encoder

TEXT = "<search> red </search> the red ball is seen first. <answer> red </answer>"
START, END = TEXT.index("the red"), TEXT.index(" <answer>")


def response(*observed: tuple[int, int]) -> Response:
    return Response(messages=(text_of(TEXT),), observed=observed)


def test_exactly_the_tokens_of_the_observation_are_masked() -> None:
    tiny = tiny_causal_lm()
    encoder = Encoder(tiny.family, tiny.processor, FrameSampling())
    labelled = LabelledResponse(
        sample_id="s", prompt=(user("which?"),), response=response((START, END)), desirable=True
    )
    (row,) = encoder.answer(labelled).rows
    (branch,) = row.branches
    inside = [max(start, START) < min(end, END) for start, end in branch.offsets]
    assert sum(inside) > 5
    assert branch.mask.tolist() == [not one for one in inside]


def test_each_side_of_a_pair_has_its_own() -> None:
    tiny = tiny_causal_lm()
    encoder = Encoder(tiny.family, tiny.processor, FrameSampling())
    pair = PreferencePair(
        sample_id="s",
        prompt=(user("which?"),),
        chosen=Response(messages=(text_of("<answer> red </answer>"),)),
        rejected=response((START, END)),
    )
    (row,) = encoder.pair(pair).rows
    chosen, rejected = row.branches
    assert chosen.mask.all()
    assert not rejected.mask.all()
    assert rejected.mask.any()


@pytest.mark.parametrize("observed", [(-1, 3), (4, 4), (0, len(TEXT) + 1)])
def test_a_range_outside_the_text_is_refused(observed: tuple[int, int]) -> None:
    with pytest.raises(ValidationError, match="is no range of the response's text"):
        response(observed)


def test_a_response_without_observations_keeps_its_id() -> None:
    assert "observed" not in response().id_content()
    assert response().content_id() != response((START, END)).content_id()
