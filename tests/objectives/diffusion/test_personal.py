"""PPD: worked cases, identities, refused input."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives.diffusion.personal import (
    mix_users,
    personal_shots,
    text_attention,
    user_attention,
)
from mmalign.testing.golden import t64


def normal(seed: int, *shape: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


TEXT = (normal(0, 3, 4, 8), normal(1, 3, 5, 8), normal(2, 3, 5, 8))
USER = (normal(3, 3, 2, 6), normal(4, 6, 8), normal(5, 6, 8))


def test_attention_worked_by_hand() -> None:
    """Scores 2 * log(3) / sqrt(4) = log 3 against 0: weights 3/4 and 1/4 of 8 and 4 make 7."""
    query = t64([[[2.0, 0.0, 0.0, 0.0]]])
    key = t64([[[math.log(3), 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    value = t64([[[8.0] * 4, [4.0] * 4]])
    assert_close(text_attention(query, key, value, num_heads=1), t64([[[7.0] * 4]]))


def test_each_head_attends_with_its_own_columns() -> None:
    whole = text_attention(*TEXT, num_heads=2)
    for columns in (slice(0, 4), slice(4, 8)):
        alone = text_attention(*(tensor[..., columns] for tensor in TEXT), num_heads=1)
        assert_close(whole[..., columns], alone)


@pytest.mark.parametrize("off", ["embedding", "weight", "value map", "keep"])
def test_without_a_user_the_layer_is_that_of_the_base_model(off: str) -> None:
    user, key_map, value_map = USER
    found = user_attention(
        *TEXT,
        user * (off != "embedding"),
        key_map,
        value_map * (off != "value map"),
        num_heads=2,
        user_weight=float(off != "weight"),
        keep=torch.full((3,), float(off != "keep")),
    )
    assert_close(found, text_attention(*TEXT, num_heads=2), rtol=0, atol=0)


def test_a_dropped_user_leaves_the_other_rows_as_they_are() -> None:
    kept = user_attention(*TEXT, *USER, num_heads=2)
    found = user_attention(*TEXT, *USER, num_heads=2, keep=torch.tensor([1, 0, 1]))
    assert_close(found[[0, 2]], kept[[0, 2]], rtol=0, atol=0)
    assert_close(found[1], text_attention(*TEXT, num_heads=2)[1], rtol=0, atol=0)
    assert (found[1] - kept[1]).abs().max() > 0.1


def test_from_a_value_map_of_zeros_only_that_map_learns() -> None:
    user, key_map, value_map = USER
    maps = (key_map.clone().requires_grad_(), torch.zeros_like(value_map).requires_grad_())
    found = user_attention(*TEXT, user, *maps, num_heads=2)
    key_grad, value_grad = torch.autograd.grad(found.square().sum(), maps)
    assert key_grad.abs().max() == 0
    assert value_grad.abs().max() > 0.1


def test_order_of_user_tokens_does_not_matter() -> None:
    user, *maps = USER
    there = user_attention(*TEXT, user, *maps, num_heads=2)
    assert_close(user_attention(*TEXT, user.flip(1), *maps, num_heads=2), there)


def test_two_users_get_two_answers() -> None:
    user, *maps = USER
    one = user_attention(*TEXT, user, *maps, num_heads=2)
    other = user_attention(*TEXT, -user, *maps, num_heads=2)
    assert (one - other).abs().max() > 0.1


def test_it_is_not_attention_over_concatenated_tokens() -> None:
    query, key, value = TEXT
    user, key_map, value_map = USER
    one_softmax = text_attention(
        query,
        torch.cat([key, user @ key_map], 1),
        torch.cat([value, user @ value_map], 1),
        num_heads=2,
    )
    found = user_attention(*TEXT, *USER, num_heads=2)
    assert (found - one_softmax).abs().max() > 0.1


def test_shots_are_those_that_numpy_draws_in_their_order() -> None:
    pool = [10, 11, 13, 14, 15]
    drawn = np.random.default_rng(7).choice(pool, 4, replace=False).tolist()
    assert personal_shots([10, 11, 12, 13, 14, 15], exclude={12}, seed=7) == tuple(drawn)


@pytest.mark.parametrize("seed", range(20))
def test_shots_never_hold_the_trained_pair_or_one_of_its_prompt(seed: int) -> None:
    shots = personal_shots(["a", "b", "c", "d", "e", "f"], exclude={"b", "e"}, seed=seed)
    assert shots is not None
    assert set(shots) == {"a", "c", "d", "f"}


def test_a_user_with_too_few_pairs_is_skipped() -> None:
    assert personal_shots([1, 2, 3, 4], exclude={1}, seed=0) is None
    assert personal_shots([1, 2, 3, 4], exclude={9}, seed=0) is not None


def test_mix_worked_by_hand() -> None:
    """Weights 1 and 3 become 1/4 and 3/4: 4 / 4 + 3 * 8 / 4 = 7."""
    assert mix_users(t64([[[4.0]], [[8.0]]]), t64([1.0, 3.0])).tolist() == [[7.0]]


def test_a_mix_of_one_user_is_that_user() -> None:
    users = normal(3, 3, 2, 6)
    assert_close(mix_users(users, t64([0.0, 5.0, 0.0])), users[1], rtol=0, atol=0)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -0.5], [1.0, math.nan]])
def test_weights_that_make_no_mean_are_refused(weights: list[float]) -> None:
    with pytest.raises(ShapeError, match=r"weights are \[.*expected finite numbers of at least 0"):
        mix_users(normal(0, 2, 1, 1), t64(weights))


def test_shapes_that_do_not_fit_are_refused() -> None:
    query, key, value = TEXT
    user, key_map, value_map = USER
    with pytest.raises(ShapeError, match=r"found query \[4, 8\]"):
        text_attention(query[0], key, value, num_heads=2)
    with pytest.raises(ShapeError, match=r"do not fit: \[3, 4, 8\], \[2, 5, 8\]"):
        text_attention(query, key[:2], value[:2], num_heads=2)
    with pytest.raises(ShapeError, match="num_heads is 3, expected a divisor of the width 8"):
        text_attention(*TEXT, num_heads=3)
    with pytest.raises(ShapeError, match=r"user_key_map \[6, 8\], user \[3, 2, 5\]"):
        user_attention(*TEXT, user[..., :5], key_map, value_map, num_heads=2)
    with pytest.raises(ShapeError, match=r"expected keep \[3\], found keep \[3, 1\]"):
        user_attention(*TEXT, *USER, num_heads=2, keep=torch.ones(3, 1))
    with pytest.raises(ShapeError, match=r"embeddings \[3, 2, 6\], weights \[2\]"):
        mix_users(user, t64([1.0, 1.0]))


def test_impossible_draws_are_refused() -> None:
    with pytest.raises(RecordError, match="num_shots is 0, expected at least 1"):
        personal_shots([1, 2], exclude=set(), seed=0, num_shots=0)
    with pytest.raises(RecordError, match="pair 2 occurs more than once"):
        personal_shots([1, 2, 2], exclude=set(), seed=0, num_shots=1)
