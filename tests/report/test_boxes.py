"""Pictures of boxes: what is drawn, what is said of it, and where it can be seen."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mmalign.cli.app import run
from mmalign.errors import ConfigError, MediaError
from mmalign.records import MediaRef, Sample, user
from mmalign.report import boxes_picture, boxes_table, write_report
from mmalign.report.boxes import SHOWN_FILE, read_box_views

HIT = '[{"bbox_2d": [5, 5, 25, 25], "label": "cat"}]'
MISS = '[{"bbox_2d": [60, 60, 90, 90], "label": "a $x dog"}]'


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    Image.new("RGB", (100, 80), (10, 20, 30)).save(tmp_path / "a.png")
    return Sample(
        id="s1",
        messages=(user("find all", MediaRef(kind="image", uri=str(tmp_path / "a.png"))),),
        boxes=((10.0, 10.0, 50.0, 50.0),),
        metadata={
            "labels": ["cat"],
            "width": 100,
            "height": 80,
            "coord_space": "input_pixels",
            "input_width": 50,
            "input_height": 40,
        },
    )


def colours(picture: io.BytesIO) -> np.ndarray[Any, Any]:
    picture.seek(0)
    return np.array(Image.open(picture).convert("RGB")).reshape(-1, 3)


def has(pixels: np.ndarray[Any, Any], red: int, green: int, blue: int) -> bool:
    return bool((np.abs(pixels.astype(int) - [red, green, blue]).max(-1) < 12).any())


def test_hits_are_green_and_misses_red(sample: Sample) -> None:
    hit, miss = io.BytesIO(), io.BytesIO()
    boxes_picture(sample, {"one": HIT}, hit)
    boxes_picture(sample, {"one": MISS}, miss)
    green, red = (55, 214, 122), (255, 93, 93)
    assert has(colours(hit), *green)
    assert not has(colours(hit), *red)
    assert has(colours(miss), *red)
    assert not has(colours(miss), *green)


def test_a_file_of_the_asked_kind_is_written(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "out.svg"
    assert boxes_picture(sample, {"before": MISS, "after": HIT}, path) == path
    assert "<svg" in path.read_text()


def test_what_cannot_be_drawn_is_refused(sample: Sample) -> None:
    with pytest.raises(ConfigError, match="has 1 pictures and 0 completions"):
        boxes_picture(sample, {}, io.BytesIO())
    Path(sample.media[0].uri).unlink()
    with pytest.raises(MediaError):
        boxes_picture(sample, {"one": HIT}, io.BytesIO())


def test_the_table_says_what_each_box_fits_and_what_is_paid(sample: Sample) -> None:
    console = Console(file=io.StringIO(), width=140)
    console.print(boxes_table(sample, {"after": HIT, "before": "nothing"}))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "10, 10, 50, 50" in text  # in pixels of the picture
    assert "1.00" in text
    assert "form 1 + recall 1.00 + precision 1.00 = 3.00" in text
    assert "form 0 + recall 0.00 + precision 0.00 = 0.00" in text


def write_run(folder: Path, sample: Sample) -> None:
    (folder / "eval").mkdir(parents=True)
    (folder / "eval" / SHOWN_FILE).write_text(sample.model_dump_json() + "\n")
    for arm, text in (("before", MISS), ("after", HIT)):
        line = json.dumps({"id": "s1", "prediction": text})
        (folder / "eval" / f"{arm}.predictions.jsonl").write_text(line + "\n")
        report = {"name": arm, "metric": "mAP", "metrics": {"mAP": 10.0}, "settings": {}}
        (folder / "eval" / f"{arm}.json").write_text(json.dumps(report))


def test_the_report_shows_both_arms_side_by_side(sample: Sample, tmp_path: Path) -> None:
    write_run(tmp_path / "run", sample)
    (view,) = read_box_views(tmp_path / "run" / "eval", ["before", "after"])
    assert view.totals == (
        "before: form 0 + recall 0.00 + precision 0.00 = 0.00",
        "after: form 1 + recall 1.00 + precision 1.00 = 3.00",
    )
    text = write_report(tmp_path / "run").read_text()
    assert 'alt="s1. before: form 0' in text
    assert text.count("data:image/png;base64,") == 1


def test_a_picture_that_is_gone_is_named_and_other_runs_have_none(
    sample: Sample, tmp_path: Path
) -> None:
    write_run(tmp_path / "run", sample)
    Path(sample.media[0].uri).unlink()
    assert "<b>No picture.</b>" in write_report(tmp_path / "run").read_text()
    assert read_box_views(tmp_path, ["before"]) == []


def test_the_boxes_of_a_run_can_be_printed_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path / "cache"))
    from mmalign.datasets.shapes import read_detection

    (first,) = read_detection("test", num_samples=1)
    folder = tmp_path / "run"
    (folder / "eval").mkdir(parents=True)
    line = json.dumps({"id": first.id, "prediction": first.answer})
    (folder / "eval" / "after.predictions.jsonl").write_text(line + "\n")
    (folder / "config.yaml").write_text(
        "output_dir: run\n"
        "dataset: {path: 'mmalign.datasets.shapes:read_detection', split: train}\n"
        "models: {policy: {backend: transformers, model_name_or_path: nowhere}}\n"
        "evaluation:\n"
        "  dataset: {path: 'mmalign.datasets.shapes:read_detection', split: test, num_samples: 2}\n"
        "  metric: detection\n"
    )
    output = tmp_path / "boxes.png"
    assert run(["show", "boxes", str(folder), "--output", str(output)]) == 0
    assert "gold boxes" in capsys.readouterr().out
    with Image.open(output) as picture:
        assert picture.size[0] > 100
    assert run(["show", "boxes", str(folder), "--sample", "other"]) == 2
    assert "holds no answer to other" in capsys.readouterr().err
