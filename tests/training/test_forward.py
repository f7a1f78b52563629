"""The branch layout gives the numbers of the plain layout: loss and every gradient."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mmalign.models.families import ModelFamily
from mmalign.objectives import PairTerms, parse_objective
from mmalign.records import MediaRef, text_of, user
from mmalign.testing.tiny_models import TinyModel, tiny_clip, tiny_llava_onevision, tiny_qwen2_5_vl
from mmalign.training.forward import Layout, Row, completion_hidden, completion_ids
from mmalign.training.logprobs import ReferenceHidden, score_tokens

FAMILIES: dict[str, Callable[[], TinyModel]] = {
    "llava_onevision": tiny_llava_onevision,
    "qwen2_5_vl": tiny_qwen2_5_vl,
}
PAIRS = (
    ("what colour is the circle?", "red.", "it is the blue square that moves to the left."),
    (
        "which shape makes the tone in the clip? answer with a short word or sentence.",
        "the green star vanishes and then the circle appears.",
        "two.",
    ),
)


def rows_of(tiny: TinyModel) -> list[Row]:
    """Two prompts of unequal length with two branches of unequal length each, in one batch."""
    rows = []
    for index, (question, *answers) in enumerate(PAIRS):
        messages = (user(question, MediaRef(kind="video", uri="in memory")),)
        clip = tiny_clip(num_frames=4, seed=index)
        prompt = tiny.family.encode_prompt(tiny.processor, messages, [clip])
        branches = tuple(
            tiny.family.encode_completion(tiny.processor, messages, (text_of(answer),))
            for answer in answers
        )
        rows.append(Row(prompt, branches))
    return rows


def rrpo_of(model: nn.Module, family: ModelFamily, rows: list[Row], layout: Layout) -> Tensor:
    """RRPO against a shifted copy of the model's own states, so that every term counts."""
    hidden = completion_hidden(model, family, rows, layout=layout)
    ids = completion_ids(rows)
    head = family.head(model)  # type: ignore[arg-type]  # a tiny transformers model
    reference = ReferenceHidden(hidden.detach() * 0.9 + 0.05, head)
    scores = score_tokens(hidden, head, ids, chunk_size=8, reference=reference)
    with torch.no_grad():
        ref = score_tokens(reference.hidden, head, ids, chunk_size=8)
    assert scores.kl is not None
    sizes = [len(branch.input_ids) for row in rows for branch in row.branches]
    sides = [
        [nn.utils.rnn.pad_sequence(parts[side::2], batch_first=True) for side in (0, 1)]
        for values in (scores.logps, ref.logps, torch.ones_like(ref.logps), scores.kl)
        for parts in [list(torch.split(values, sizes))]
    ]
    policy, ref_logps, mask, kl = sides
    phrases = [side.long() * (torch.arange(side.shape[1]) % 2 == 0) for side in mask]
    terms = PairTerms(
        policy_chosen_token_logps=policy[0],
        policy_rejected_token_logps=policy[1],
        ref_chosen_token_logps=ref_logps[0],
        ref_rejected_token_logps=ref_logps[1],
        chosen_mask=mask[0],
        rejected_mask=mask[1],
        chosen_phrase_ids=phrases[0],
        rejected_phrase_ids=phrases[1],
        chosen_token_kl=kl[0],
    )
    chosen = parse_objective({"name": "rrpo", "beta": 0.5, "alpha": 0.1})
    return chosen.loss(terms).loss.mean()


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    torch.autograd.backward(loss)
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain memory", "checkpointing"])
@pytest.mark.parametrize("name", FAMILIES)
def test_branch_layout_equals_plain_layout(
    name: str, checkpointing: bool, dtype: torch.dtype
) -> None:
    tiny = FAMILIES[name]()
    model = tiny.model.to(dtype).train()  # type: ignore[arg-type]  # stubs take no dtype
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    rows = [
        Row(
            type(row.prompt)(
                row.prompt.input_ids,
                {
                    k: v.to(dtype) if v.is_floating_point() and k.startswith("pixel") else v
                    for k, v in row.prompt.media.items()
                },
                row.prompt.token_types,
            ),
            row.branches,
        )
        for row in rows_of(tiny)
    ]
    plain_loss = rrpo_of(model, tiny.family, rows, "plain")
    plain = gradients(model, plain_loss)
    branch_loss = rrpo_of(model, tiny.family, rows, "branch")
    branch = gradients(model, branch_loss)

    tolerance = 1e-5 if dtype == torch.float32 else 1e-6
    assert branch_loss.item() == pytest.approx(plain_loss.item(), rel=tolerance)
    assert branch.keys() == plain.keys()
    norm = torch.stack([g.norm() for g in plain.values()]).norm()
    gap = torch.stack([(branch[n] - plain[n]).norm() for n in plain]).norm()
    assert norm > 1e-3
    assert gap / norm < tolerance
    for parameter, gradient in plain.items():
        if gradient.norm() > 1e-6 * norm:
            difference = (branch[parameter] - gradient).norm() / gradient.norm()
            assert difference < tolerance * 100, parameter


@pytest.mark.parametrize("name", FAMILIES)
def test_branches_do_not_see_each_other(name: str) -> None:
    tiny = FAMILIES[name]()
    rows = rows_of(tiny)
    with torch.no_grad():
        both = completion_hidden(tiny.model, tiny.family, rows)
        alone = completion_hidden(
            tiny.model, tiny.family, [Row(row.prompt, row.branches[:1]) for row in rows]
        )
    first = [len(row.branches[0].input_ids) for row in rows]
    skip = len(rows[0].branches[1].input_ids)
    kept = torch.cat([both[: first[0]], both[first[0] + skip :][: first[1]]])
    torch.testing.assert_close(kept, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_media_reach_the_answers(name: str) -> None:
    tiny = FAMILIES[name]()
    rows = rows_of(tiny)
    messages = (user(PAIRS[0][0], MediaRef(kind="video", uri="in memory")),)
    other = tiny.family.encode_prompt(tiny.processor, messages, [tiny_clip(num_frames=4, seed=9)])
    with torch.no_grad():
        one = completion_hidden(tiny.model, tiny.family, rows[:1])
        two = completion_hidden(tiny.model, tiny.family, [Row(other, rows[0].branches)])
    assert (one - two).abs().max() > 1e-3
