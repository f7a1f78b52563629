"""The branch layout gives the numbers of the plain layout: loss and every gradient."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from mmalign.models.families import ModelFamily
from mmalign.objectives import PairTerms, parse_objective
from mmalign.records import MediaRef, text_of, user
from mmalign.testing.tiny_audio_models import (
    tiny_audio_visual,
    tiny_clue_model,
    tiny_qwen2_5_omni,
    tiny_qwen2_audio,
    tiny_sound,
)
from mmalign.testing.tiny_models import (
    TinyModel,
    tiny_causal_lm,
    tiny_clip,
    tiny_image,
    tiny_llava_onevision,
    tiny_qwen2_5_vl,
)
from mmalign.testing.tiny_vision_models import tiny_qwen3_vl, tiny_smolvlm
from mmalign.training.forward import Layout, Row, completion_hidden, completion_ids
from mmalign.training.logprobs import ReferenceHidden, score_tokens

FAMILIES: dict[str, Callable[[], TinyModel]] = {
    "llava_onevision": tiny_llava_onevision,
    "qwen2_5_vl": tiny_qwen2_5_vl,
    "qwen3_vl": tiny_qwen3_vl,
    "smolvlm": tiny_smolvlm,
    "qwen2_audio": tiny_qwen2_audio,
    "qwen2_5_omni": tiny_qwen2_5_omni,
    "audio_visual": tiny_audio_visual,
    "audio_visual with clues": tiny_clue_model,
    "causal_lm": tiny_causal_lm,
}
SHOWN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "text": ((), ()),
    "clip": (("video",), ("video",)),
    "sound": (("audio",), ("audio",)),
    "picture and sound": (("image", "audio"), ("image", "audio")),
    "clip and sound": (("video", "audio"), ("audio", "video")),
    "unlike": (("audio", "image", "audio"), ("video",)),
    "several": (("audio", "video", "audio"), ("video",)),
}
"""Media of the first and of the second prompt."""
SHOWN_TO = {"qwen2_audio": "sound", "qwen2_5_omni": "clip and sound", "causal_lm": "text"}
CASES = [
    *((name, SHOWN_TO.get(name, "clip")) for name in FAMILIES),
    *(("qwen2_5_omni", kind) for kind in ("clip", "sound", "picture and sound", "unlike")),
    *(("audio_visual", kind) for kind in ("clip and sound", "sound", "several")),
    *(("audio_visual with clues", kind) for kind in ("clip and sound", "several")),
]
PAIRS = (
    ("what colour is the circle?", "red.", "it is the blue square that moves to the left."),
    (
        "which shape makes the tone in the clip? answer with a short word or sentence.",
        "the green star vanishes and then the circle appears.",
        "two.",
    ),
)


LISTS = (
    (*PAIRS[0], "two.", "no, it does not."),
    (*PAIRS[1], "the tone."),
)


def medium(kind: str, *, num_frames: int, seed: int) -> Any:
    if kind == "audio":
        return tiny_sound(0.3 + 0.07 * seed, seed=seed)
    return tiny_clip(num_frames=num_frames, seed=seed) if kind == "video" else tiny_image(seed=seed)


def rows_of(
    tiny: TinyModel,
    asked: Sequence[tuple[str, ...]] = PAIRS,
    *,
    shown: str | None = None,
    num_frames: Sequence[int] = (4, 4),
    seed: int = 0,
) -> list[Row]:
    """Two prompts of unequal length with branches of unequal length each, in one batch."""
    rows = []
    for index, (question, *answers) in enumerate(asked):
        kinds = SHOWN[shown or SHOWN_TO.get(tiny.family.name, "clip")][index]
        refs = [MediaRef.model_validate({"kind": kind, "uri": "in memory"}) for kind in kinds]
        messages = (user(question, *refs),)
        media = [
            medium(kind, num_frames=num_frames[index], seed=seed + index + place)
            for place, kind in enumerate(kinds)
        ]
        prompt = tiny.family.encode_prompt(tiny.processor, messages, media)
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
@pytest.mark.parametrize(("name", "shown"), CASES)
def test_branch_layout_equals_plain_layout(
    name: str, shown: str, checkpointing: bool, dtype: torch.dtype
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
        for row in rows_of(tiny, shown=shown)
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
            assert difference < tolerance, parameter


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # asked by PEFT
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain memory", "checkpointing"])
@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_learn_the_same_from_lists_of_unequal_size(name: str, checkpointing: bool) -> None:
    """Four and three branches; LLaVA-OneVision's class takes no clips of unequal length."""
    tiny = FAMILIES[name]()
    targets = tiny.family.language_linears(tiny.model)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = get_peft_model(
            tiny.model,
            LoraConfig(target_modules=targets, r=2, init_lora_weights=False),
        ).train()
    if checkpointing:
        tiny.model.activation_checkpointing_enable({"use_reentrant": False})
    rows = rows_of(tiny, LISTS, num_frames=(4, 4) if name == "llava_onevision" else (4, 7))

    def loss_of(layout: Layout) -> Tensor:
        hidden = completion_hidden(model, tiny.family, rows, layout=layout)
        ids = completion_ids(rows)
        logps = score_tokens(hidden, tiny.family.head(tiny.model), ids, chunk_size=8).logps
        return (logps * torch.linspace(-1.0, 1.0, len(ids))).mean()

    plain_loss = loss_of("plain")
    plain = gradients(model, plain_loss)
    branch_loss = loss_of("branch")
    branch = gradients(model, branch_loss)
    assert len(plain) == 2 * len(targets)
    assert branch_loss.item() == pytest.approx(plain_loss.item(), rel=1e-5)
    norm = torch.stack([g.norm() for g in plain.values()]).norm()
    for parameter, gradient in plain.items():
        if gradient.norm() > 1e-6 * norm:
            difference = (branch[parameter] - gradient).norm() / gradient.norm()
            assert difference < 1e-5, parameter


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


@pytest.mark.parametrize("name", [name for name in FAMILIES if SHOWN_TO.get(name) != "text"])
def test_media_reach_the_answers(name: str) -> None:
    tiny = FAMILIES[name]()
    rows = rows_of(tiny)
    other = rows_of(tiny, seed=9)[0].prompt
    with torch.no_grad():
        one = completion_hidden(tiny.model, tiny.family, rows[:1])
        two = completion_hidden(tiny.model, tiny.family, [Row(other, rows[0].branches)])
    assert (one - two).abs().max() > 1e-3
