"""Detection rows: boxes fit what is painted, splits are frozen, tokens lose nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmalign.datasets.shapes import read_detection
from mmalign.datasets.shapes.detection import (
    PICTURES,
    PROMPT,
    fingerprint,
    pictures_of,
)
from mmalign.datasets.shapes.detection_model import (
    NAMES,
    detection_tokenizer,
    order_numbers,
    picture_frame,
)
from mmalign.datasets.shapes.model import processor_of_shapes, untrained_model
from mmalign.datasets.shapes.pictures import PICTURE_SIZE, Picture, draw_picture, render_picture
from mmalign.datasets.shapes.reader import Split
from mmalign.datasets.shapes.tower import align_tower
from mmalign.errors import ConfigError
from mmalign.rewards.boxes import box_overlaps, parse_boxes, scale_box
from mmalign.rewards.detection import box_reward, detection_row

FROZEN: dict[Split, str] = {
    "sft": "568756e3fcc332385c2b50ef9a9913e2",
    "train": "ad00b26ea98e052aeaef500c2288a28e",
    "validation": "6ac730d05a30d56c93bcc9ebd788316b",
    "test": "7a38fc92cdeb8760911faa6888819555",
}


@pytest.mark.parametrize("split", list(PICTURES))
def test_pictures_are_frozen(split: Split) -> None:
    assert fingerprint(split) == FROZEN[split]


def test_no_picture_is_in_two_splits() -> None:
    ids = [picture.id for split in PICTURES for picture in pictures_of(split)]
    assert len(set(ids)) == len(ids) == sum(plan.num_pictures for plan in PICTURES.values())


@pytest.mark.parametrize("seed", range(40))
def test_a_box_holds_its_shape_and_nothing_else(seed: int) -> None:
    picture = draw_picture(np.random.default_rng((99, seed)))
    painted = (render_picture(picture) != picture.shade).any(-1)
    inside = np.zeros_like(painted)
    for shape in picture.shapes:
        alone = Picture(picture.id, (shape,), picture.shade)
        rows, columns = np.nonzero((render_picture(alone) != picture.shade).any(-1))
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.subtract(seen, shape.box)).max() <= 1.0
        inside[seen[1] : seen[3], seen[0] : seen[2]] = True
    assert not (painted & ~inside).any()


def test_a_row_asks_in_pixels_of_the_input_and_its_gold_stands_in_pixels_of_the_file(
    tmp_path: Path,
) -> None:
    (sample,) = read_detection("test", root=tmp_path, num_samples=1)
    (media,) = sample.media
    with Image.open(media.uri) as image:
        assert image.size == (PICTURE_SIZE, PICTURE_SIZE)
    assert media.kind == "image"
    assert sample.question == PROMPT
    row = detection_row(sample)
    assert row.sizes == (128, 128, 64, 64)
    written = [scale_box(box, x_factor=2, y_factor=2) for box in parse_boxes(str(sample.answer))]
    assert [box.label for box in written] == [box.label for box in row.gold]
    assert np.abs(np.subtract(written[0].corners, row.gold[0].corners)).max() <= 1.0
    assert np.diag(box_overlaps(written, row.gold).ious).min() > 0.6


def test_the_gold_answers_earn_nearly_all(tmp_path: Path) -> None:
    totals = [
        box_reward(str(sample.answer), detection_row(sample)).total
        for sample in read_detection("validation", root=tmp_path)
    ]
    assert min(totals) > 2.5
    assert np.mean(totals) > 2.97


def test_a_file_is_made_once(tmp_path: Path) -> None:
    (first,) = read_detection("test", root=tmp_path, num_samples=1)
    before = Path(first.media[0].uri).stat().st_mtime_ns
    (again,) = read_detection("test", root=tmp_path, num_samples=1)
    assert again == first
    assert Path(again.media[0].uri).stat().st_mtime_ns == before
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="found split 'dev', expected one of sft, train"):
        list(read_detection("dev"))  # type: ignore[arg-type]  # that is what is tested


def test_the_tokens_of_prompts_and_answers_lose_nothing(
    tmp_path: Path,
) -> None:
    tokenizer = detection_tokenizer()
    texts = [str(s.answer) for s in read_detection("validation", root=tmp_path)]
    for text in [*texts, f" {PROMPT}", "[]"]:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
    one = json.loads(texts[0])[:1]
    assert len(tokenizer(json.dumps(one))["input_ids"]) == 14


def test_numbers_begin_alike_where_they_are_close() -> None:
    start = untrained_model(0, processor_of_shapes(detection_tokenizer()))
    order_numbers(start, seed=0)
    names = [str(number) for number in range(65)]
    known = start.processor.tokenizer.convert_tokens_to_ids(names)
    embedding: Any = start.model.get_input_embeddings().weight  # typed as tensor or module
    rows = embedding[known].detach()
    alike = torch.nn.functional.cosine_similarity(rows[30], rows, dim=1)
    assert alike[30] > alike[31] > alike[32] > alike[34]
    assert alike[31] > 0.7
    assert alike[50] < 0.3
    assert rows.std() == pytest.approx(0.08, rel=0.1)


def test_the_tower_learns_what_pictures_show() -> None:
    start = untrained_model(0, processor_of_shapes(detection_tokenizer()))
    losses = align_tower(
        start, seed=0, steps=8, batch_size=8, draw_frame=picture_frame, words=NAMES
    )
    assert losses[-1] < losses[0]


def test_a_chat_about_a_picture_loses_nothing(tmp_path: Path) -> None:
    tokenizer = detection_tokenizer()
    (sample,) = read_detection("test", root=tmp_path, num_samples=1)
    asked = [{"type": "image"}, {"type": "text", "text": sample.question}]
    chat: Any = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": str(sample.answer)},
    ]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text
