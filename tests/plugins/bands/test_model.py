"""The untrained model of the bands world: it knows all words, and starts from the shapes' tower."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmalign.datasets.bands.model import write_untrained
from mmalign.datasets.bands.questions import vague_words
from mmalign.datasets.bands.reader import questions_of
from mmalign.datasets.shapes.reader import FORMS
from mmalign.models.families import family_of, processor_of

SHAPES_MODEL = Path(__file__).parents[3] / "datasets" / "shapes" / "base_model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_untrained(tmp_path_factory.mktemp("bands") / "start")


def test_every_text_of_the_world_comes_back_from_the_tokenizer(folder: Path) -> None:
    tokenizer = processor_of(str(folder)).tokenizer
    questions = [question for scene in questions_of("validation") for question in scene]
    texts = {*FORMS.values(), vague_words()}
    texts |= {text for q in questions for text in (q.text, q.answer_short, q.answer_long)}
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids, text
        assert tokenizer.decode(ids).split() == text.split()


def test_the_tower_is_that_of_the_shapes_world_and_the_seed_fixes_the_rest(
    folder: Path, tmp_path: Path
) -> None:
    family = family_of(str(folder))
    assert family.name == "audio_visual"
    model, _ = family.load(str(folder), dtype=torch.float32, device="cpu")
    trained = load_file(SHAPES_MODEL / "model.safetensors")
    tower = model.get_submodule("model.vision_tower").state_dict()
    prefix = next(name for name in trained if "vision_tower" in name).split("vision_tower.")[0]
    names = [name for name in tower if "patch_embedding" in name]
    assert names
    for name in names:
        assert torch.equal(tower[name], trained[f"{prefix}vision_tower.{name}"])
    again = load_file(write_untrained(tmp_path / "again") / "model.safetensors")
    one = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in one.items())
