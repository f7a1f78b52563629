"""Clotho-AQA as released: three answers a question, the one that most gave is gold."""

from pathlib import Path

import pytest

from mmalign.datasets.clotho_aqa import read
from mmalign.errors import ConfigError, RecordError

ROWS = """file_name,QuestionText,answer,confidence
dogs.wav,Do dogs bark?,Yes,yes
dogs.wav,Do dogs bark?,yes,yes
dogs.wav,Do dogs bark?,no,maybe
"rain, far.wav","What falls, loudly?",rain,yes
"rain, far.wav","What falls, loudly?",water,no
"rain, far.wav","What falls, loudly?",hail,no
dogs.wav,What barks?,dog,yes
dogs.wav,What barks?,dog,yes
dogs.wav,What barks?,dog,yes
"""


def test_the_answer_of_the_majority_is_gold(tmp_path: Path) -> None:
    (tmp_path / "clotho_aqa_val.csv").write_text(ROWS)
    yes, dog = read(tmp_path, split="val")
    assert yes.answer == "yes"
    assert yes.question == "Do dogs bark?\nAnswer the question using 'yes' or 'no'."
    assert yes.metadata["answers"] == ["yes", "yes", "no"]
    (sound,) = yes.media
    assert (sound.kind, sound.uri) == ("audio", str(tmp_path / "audio_files" / "dogs.wav"))
    assert (dog.answer, dog.metadata["question_type"]) == ("dog", "word")
    assert dog.question.endswith("\nAnswer the question using a single word.")
    assert (yes.group_id, yes.id) == (dog.group_id, "clotho-aqa/val/00000")
    assert dog.id == "clotho-aqa/val/00002"


def test_disputed_questions_can_be_kept_and_samples_be_counted(tmp_path: Path) -> None:
    (tmp_path / "clotho_aqa_train.csv").write_text(ROWS)
    _, rain, _ = read(tmp_path, min_votes=1)
    assert (rain.answer, rain.media[0].uri[-13:]) == ("rain", "rain, far.wav")
    assert len(list(read(tmp_path, num_samples=1))) == 1


def test_what_is_not_the_released_form_is_named_by_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clotho_aqa_test\.csv: No such file .* audio_files/"):
        read(tmp_path, split="test")
    path = tmp_path / "clotho_aqa_train.csv"
    path.write_text(f"{ROWS}dogs.wav,,yes,yes\n")
    with pytest.raises(RecordError, match=r"csv:11: QuestionText missing or empty; expected the"):
        read(tmp_path)
    path.write_bytes(b"file_name,QuestionText,answer\na.wav,\xff?,yes\n")
    with pytest.raises(RecordError, match="save it as UTF-8"):
        read(tmp_path)
