"""Behind a clip and a sound, exactly the answer's tokens are scored, at their own positions."""

import pytest
import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.media import FrameSampling, write_video
from mmalign.models.families.vision import MEDIA_ORDER
from mmalign.records import MediaRef, PreferencePair, Response, text_of, user
from mmalign.testing.tiny_audio_models import tiny_qwen2_5_omni, tiny_sound
from mmalign.testing.tiny_models import TinyModel, tiny_clip
from mmalign.training import TrainerConfig
from mmalign.training.branches import score_branches
from mmalign.training.examples import Encoder
from mmalign.training.forward import Layout, Row, completion_ids
from mmalign.training.logprobs import score_tokens

CHOSEN, REJECTED = "the drum plays first.", "there is a mix of sounds in the video."


@pytest.fixture(scope="module")
def tiny() -> TinyModel:
    return tiny_qwen2_5_omni()


@pytest.fixture(scope="module")
def row(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Row:
    clip = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(clip, tiny_clip().frames, 4.0, audio=tiny_sound(0.4))
    pair = PreferencePair(
        sample_id="s",
        prompt=(
            user(
                "which plays first?",
                MediaRef(kind="video", uri=str(clip)),
                MediaRef(kind="audio", uri=str(clip)),
            ),
        ),
        chosen=Response(messages=(text_of(CHOSEN),)),
        rejected=Response(messages=(text_of(REJECTED),)),
    )
    example = Encoder(tiny.family, tiny.processor, FrameSampling(num_frames=2)).pair(pair)
    (row,) = example.rows  # video and sound once, for both sides
    return row


def test_the_scored_tokens_are_the_answers(tiny: TinyModel, row: Row) -> None:
    assert set(row.prompt.token_types.tolist()) == {0, 2, 3}  # text, clip, sound
    for branch, text in zip(row.branches, (CHOSEN, REJECTED), strict=True):
        scored = completion_ids([Row(row.prompt, (branch,))])
        said = tiny.processor.tokenizer.decode(scored, skip_special_tokens=True)
        assert said.strip() == text
        covered = {c for start, end in branch.offsets for c in range(start, end)}
        assert covered == set(range(len(text)))
        assert len(branch.input_ids) == len(branch.mask) == len(branch.offsets)


def by_transformers(tiny: TinyModel, row: Row, *, shift: int = 0) -> list[Tensor]:
    """[R] of each branch from the class's own forward over all positions, media and all."""
    found = []
    for branch in row.branches:
        ids = torch.cat([row.prompt.input_ids, branch.input_ids])
        media = tiny.family.join_media([row.prompt.media])
        media.pop(MEDIA_ORDER, None)
        logits = tiny.model(
            input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], **media
        ).logits[0]
        assert len(logits) == len(ids)  # one position for each token, those of media too
        first = len(row.prompt.input_ids) - 1 - shift
        logprobs = logits[first : first + len(branch.input_ids)].log_softmax(-1)
        taken = logprobs.gather(1, branch.input_ids[:, None]).squeeze(1)
        found.append(taken[branch.mask])
    return found


@pytest.mark.parametrize("layout", ["branch", "plain"])
@torch.no_grad()
def test_every_answer_token_is_scored_behind_the_media(
    layout: Layout, tiny: TinyModel, row: Row
) -> None:
    """Text-only labels, as of CAT's released trainer, would be off by the media's tokens."""
    scores = score_branches(
        tiny.model, tiny.family, [row], TrainerConfig(layout=layout), reference=None
    )
    for ours, theirs in zip(scores.logps, by_transformers(tiny, row), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    num_media = row.prompt.num_media_tokens
    assert num_media > 8
    misaligned = by_transformers(tiny, row, shift=num_media)
    for ours, wrong in zip(scores.logps, misaligned, strict=True):
        assert (ours.sum() - wrong.sum()).abs() > 1e-2


def test_labels_of_another_length_are_refused(tiny: TinyModel) -> None:
    head = torch.nn.Linear(4, 7, bias=False)
    with pytest.raises(ShapeError, match="3 hidden states for 2 tokens"):
        score_tokens(torch.zeros(3, 4), head, torch.zeros(2, dtype=torch.long), chunk_size=8)
