"""What the branch layout spares: the dense mask, and the prompt in the last layer."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mmalign.errors import ConfigError
from mmalign.models.families import EncodedCompletion, EncodedPrompt
from mmalign.testing.tiny_models import TinyModel, tiny_causal_lm, tiny_llava_onevision
from mmalign.training.branch_attention import NAME, branch_layout
from mmalign.training.forward import Layout, Row, completion_hidden


def row_of(prompt: list[int], *branches: list[int]) -> Row:
    """Ids without media; every branch token is scored."""
    ids = torch.tensor(prompt)
    return Row(
        EncodedPrompt(ids, {}, torch.zeros_like(ids)),
        tuple(
            EncodedCompletion(
                torch.tensor(branch), torch.ones(len(branch), dtype=torch.bool), ((0, 0),)
            )
            for branch in branches
        ),
    )


def rows_of(num_branches: int) -> list[Row]:
    """Two prompts of 9 and 5 tokens with branches of 1 to 4 tokens."""
    return [
        row_of(
            [10 + place for place in range(size)],
            *([20 + number + place for place in range(1 + number % 4)] for number in range(count)),
        )
        for size, count in ((9, num_branches), (5, 2))
    ]


def hidden_of(tiny: TinyModel, rows: list[Row], layout: Layout = "branch") -> Tensor:
    return completion_hidden(tiny.model, tiny.family, rows, layout=layout)


def test_the_mask_of_a_batch_worked_by_hand() -> None:
    """Prompts of 2 and 1 tokens, branches of 1 + 1 and of 1: the last rows are padding."""
    layout = branch_layout([2, 1], [[1, 1], [1]], device=torch.device("cpu"))
    assert (layout.num_prompt, layout.last.tolist()) == (2, [1, 0])
    assert layout.mask.int().tolist() == [
        [[[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]],
        [[[1, 0, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]],
    ]


@pytest.mark.parametrize("num_branches", [2, 5, 16])
@pytest.mark.parametrize("make", [tiny_causal_lm, tiny_llava_onevision])
def test_many_branches_see_what_they_see_alone(
    make: Callable[[], TinyModel], num_branches: int
) -> None:
    tiny = make()
    tiny.model.double()
    rows = rows_of(num_branches)
    together, alone = hidden_of(tiny, rows), hidden_of(tiny, rows, "plain")
    assert (together - alone).norm() < 1e-6 * alone.norm()


def test_the_last_layer_works_on_branches_and_one_token_of_each_prompt() -> None:
    tiny = tiny_causal_lm()
    seen: list[int] = []
    layers = tiny.family.decoder(tiny.model).layers
    assert isinstance(layers, nn.ModuleList)
    for layer in (layers[0], layers[-1]):
        mlp = layer.mlp
        assert isinstance(mlp, nn.Module)
        mlp.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].shape[1]))
    hidden_of(tiny, rows_of(2))
    assert seen == [9 + 3, 1 + 3]  # the longest prompt and branches of 1 + 2 tokens


def test_a_copy_of_the_model_computes_with_its_own_weights() -> None:
    tiny = tiny_causal_lm()
    rows = rows_of(2)
    before = hidden_of(tiny, rows)
    other = copy.deepcopy(tiny.model)
    with torch.no_grad():
        for parameter in tiny.model.parameters():
            parameter.mul_(1.5)
    again = completion_hidden(other, tiny.family, rows)
    assert torch.equal(again, before)
    assert not torch.allclose(hidden_of(tiny, rows), before)


def test_plain_calls_stay_as_they_were() -> None:
    tiny = tiny_causal_lm()
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    before = tiny.model(input_ids=ids).logits
    hidden_of(tiny, rows_of(2))
    decoder = tiny.family.decoder(tiny.model)
    assert decoder.config._attn_implementation == NAME  # type: ignore[union-attr]
    assert torch.equal(tiny.model(input_ids=ids).logits, before)
    mask = torch.tensor([[0, 0, 1, 1, 1]])
    assert tiny.model(input_ids=ids, attention_mask=mask).logits.isfinite().all()


def test_another_attention_is_refused() -> None:
    tiny = tiny_causal_lm()
    tiny.model.set_attn_implementation("eager")
    with pytest.raises(ConfigError, match="needs attn_implementation sdpa, found 'eager'"):
        hidden_of(tiny, rows_of(2))
