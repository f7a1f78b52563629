"""PaMi-VDPO's choice of an altered clip."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.kl import jensen_shannon
from mmalign.selection.clip_choice import ClipChoice, choose_clip
from mmalign.selection.clips import clip_closeness, response_divergence
from mmalign.testing.golden import t64


def test_choice_worked_by_hand() -> None:
    """Of the close 0 and 2, 2 diverges more: weight (0.025 / 0.1)^0.5 = 0.5."""
    choice = choose_clip([0.9, 0.2, 0.6], [0.01, 0.5, 0.025], gamma=0.5)
    assert choice.selected == 2
    assert choice.weight == pytest.approx(0.5)
    assert choice.kept == (True, False, True)
    assert not choice.fallback


def test_where_none_is_close_the_closest_stands_in() -> None:
    choice = choose_clip([0.1, 0.4, 0.4], [0.9, 0.02, 0.9], tau_close=0.5)
    assert choice == ClipChoice(1, choice.weight, (False, True, False), fallback=True)
    assert choice.weight == pytest.approx(0.2)


def test_the_first_of_equal_divergences_is_selected() -> None:
    assert choose_clip([1.0, 1.0, 1.0], [0.1, 0.3, 0.3]).selected == 1


def test_permuted_candidates_permute_the_index_only() -> None:
    closeness, divergence = [0.9, 0.2, 0.6, 0.8], [0.01, 0.5, 0.04, 0.02]
    for shift in range(4):
        order = [(place + shift) % 4 for place in range(4)]
        choice = choose_clip([closeness[k] for k in order], [divergence[k] for k in order])
        assert order[choice.selected] == 2
        assert choice.weight == pytest.approx(0.4)


def test_clips_that_change_nothing_weigh_nothing_unless_weights_are_off() -> None:
    assert choose_clip([1.0], [0.0]).weight == 0
    assert choose_clip([1.0], [0.0], gamma=0.0).weight == 1


def test_weights_end_at_1() -> None:
    assert choose_clip([1.0], [0.8], gamma=2.0).weight == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"divergence": [0.1]}, "closeness 2, divergence 1"),
        ({"closeness": [], "divergence": []}, "expected at least one altered clip"),
        ({"divergence": [0.1, math.nan]}, r"divergence\[1\] is nan"),
        ({"tau_far": 0.0}, "tau_far is 0.0 and gamma is 1.0"),
        ({"gamma": -1.0}, "tau_far is 0.1 and gamma is -1.0"),
    ],
)
def test_wrong_candidates_and_settings_are_refused(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"closeness": [0.9, 0.8], "divergence": [0.1, 0.2]} | changed
    with pytest.raises(ShapeError, match=message):
        choose_clip(**given)


def test_closeness_is_the_cosine_and_0_for_a_zero_vector() -> None:
    features = t64([[3.0, 4.0]])
    altered = t64([[[6.0, 8.0], [-4.0, 3.0], [0.0, 0.0], [3.0, 0.0]]])
    assert_close(clip_closeness(features, altered), t64([[1.0, 0.0, 0.0, 0.6]]))


def test_features_of_other_samples_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"found \[1, 2\] and \[2, 1, 2\]"):
        clip_closeness(t64([[1.0, 0.0]]), t64([[[1.0, 0.0]], [[1.0, 0.0]]]))


def logprobs(seed: int, *shape: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64).log_softmax(-1)


def test_divergence_is_the_mean_over_the_response_alone() -> None:
    given, altered = logprobs(2, 1, 3, 5), logprobs(3, 1, 2, 3, 5)
    altered[0, 1, :2] = given[0, :2]
    altered[0, :, 2] = math.nan
    mask = torch.tensor([[1, 1, 0]])
    found = response_divergence(given, altered, mask)
    by_token = jensen_shannon(given[0, :2], altered[0, 0, :2])
    assert_close(found[0], torch.stack([by_token.mean(), t64(0.0)]), rtol=1e-12, atol=0)


def test_divergence_carries_no_gradient() -> None:
    given = logprobs(4, 1, 2, 5).requires_grad_()
    assert not response_divergence(given, logprobs(5, 1, 1, 2, 5), torch.ones(1, 2)).requires_grad


def test_a_response_without_a_token_cannot_choose() -> None:
    divergence = response_divergence(
        logprobs(6, 1, 2, 5), logprobs(7, 1, 1, 2, 5), torch.zeros(1, 2)
    )
    with pytest.raises(ShapeError, match=r"divergence\[0\] is nan"):
        choose_clip([1.0], divergence[0].tolist())


def test_predictions_of_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"expected \[B, K, T, V\]"):
        response_divergence(logprobs(8, 1, 2, 5), logprobs(9, 1, 2, 5), torch.ones(1, 2))
    with pytest.raises(ShapeError, match=r"other_logprobs \[1, 2, 4\]"):
        response_divergence(logprobs(8, 1, 2, 5), logprobs(9, 1, 3, 2, 4), torch.ones(1, 2))
