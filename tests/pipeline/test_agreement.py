"""Rates by which selection rules agree with hidden tests."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmalign.datasets.programs import read
from mmalign.errors import ConfigError, RecordError
from mmalign.pipeline.agreement import (
    RULES,
    agreement,
    main,
    minimax_rates,
    random_rates,
    right_programs,
)
from mmalign.records import (
    EXECUTION_MATRIX,
    ExecutionMatrix,
    PreferencePair,
    Response,
    Sample,
    text_of,
    user,
)
from mmalign.records.jsonl import write_jsonl
from mmalign.sandbox import Sandbox, SandboxConfig

RIGHT = "def f(x):\n    return x + 1"
WRONG = "def f(x):\n    return x + 2"
WORSE = "def f(x):\n    return x - 1"


def test_worked_by_hand() -> None:
    """Scores 2, 1, 1 and 3, 1, 0: minimax takes code 0 and, on test 1, code 1.

    Of the passes (0, 0), (0, 1), (1, 0), (2, 0) two are of the right code 0; of the failures
    (0, 2), (1, 1), (1, 2), (2, 1), (2, 2) four are of wrong codes.
    """
    results = [[1, 1, 0], [1, 0, 0], [1, 0, 0]]
    right = [True, False, False]
    assert minimax_rates(results, right) == (1, 1, 1)
    assert random_rates(results, right) == pytest.approx((2 / 4, 4 / 5, 2 / 4 * 4 / 5))


def test_a_rule_is_wrong_where_the_vote_is() -> None:
    assert minimax_rates([[1, 1], [1, 0]], [False, True]) == (0, 0, 0)


def pair(name: str, matrix: ExecutionMatrix) -> PreferencePair:
    return PreferencePair(
        sample_id=name,
        prompt=(user("Write f."),),
        chosen=Response(messages=(text_of(matrix.codes[0]),)),
        rejected=Response(messages=(text_of(matrix.codes[1]),)),
        metadata={EXECUTION_MATRIX: matrix.model_dump(mode="json")},
    )


MATRIX = ExecutionMatrix(
    codes=(RIGHT, WRONG, WORSE),
    tests=("assert f(1) == 2", "assert f(1) == 9"),
    statuses=(("pass", "fail"), ("fail", "fail"), ("fail", "fail")),
)


def matrix_of(sample: Sample) -> ExecutionMatrix:
    """The right program passes the one test there is, one that returns nothing does not."""
    assert sample.tests
    assert sample.answer
    right = sample.answer.removeprefix("```python\n").removesuffix("\n```")
    wrong = right.split("\n")[0] + "\n    return None"
    return ExecutionMatrix(
        codes=(right, wrong), tests=(sample.tests[0],), statuses=(("pass",), ("fail",))
    )


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Runs of two seeds over three instructions, of which each has built one that both have."""
    data = {"path": "mmalign.datasets.programs:read", "split": "validation", "num_samples": 3}
    samples = list(read("validation", num_samples=3))
    folders = []
    for seed in (0, 1):
        folder = tmp_path / f"seed-{seed}"
        (folder / "data").mkdir(parents=True)
        recipe: dict[str, Any] = {
            "output_dir": str(folder),
            "seed": seed,
            "dataset": data,
            "models": {"policy": {"backend": "transformers", "model_name_or_path": "nowhere"}},
            "sandbox": {"packages": []},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
        built = [pair(samples[place].id, matrix_of(samples[place])) for place in (seed, 2)]
        write_jsonl(folder / "data" / "pairs.jsonl", built)
        folders.append(folder)
    return folders


def test_hidden_tests_decide_which_programs_are_right() -> None:
    sample = Sample(
        id="sum",
        messages=(user("Write f."),),
        tests=("assert f(1) == 2", "assert f(-1) == 0"),
        metadata={"entry_point": "f"},
    )
    with Sandbox(SandboxConfig(packages=())) as sandbox:
        found = right_programs({"sum": MATRIX}, {"sum": sample}, sandbox)
        assert found == {"sum": [True, False, False]}
        with pytest.raises(RecordError, match="'sum': found no such sample"):
            right_programs({"sum": MATRIX}, {}, sandbox)


def test_runs_of_several_seeds_are_compared_on_what_they_share(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["tiny", *map(str, folders), "--target", "make tiny"])
    written = json.loads((tmp_path / "docs" / "proofs" / "tiny.json").read_text())
    assert written["command"] == "make tiny"
    assert written["seeds"] == [0, 1]
    assert written["arms"].keys() == RULES.keys()
    assert written["arms"]["minimax"]["values"] == [100, 100]
    assert written["also"]["rejected_wrong"]["random_pair"]["mean"] == 100
    assert written["notes"][0].startswith("no model was trained and no test split read: 1 instr")
    assert "50.0 % of the 8 different programs" in written["notes"][1]
    assert "## tiny" in (tmp_path / "docs" / "proofs.md").read_text()


def test_runs_without_a_common_instruction_are_refused(folders: list[Path]) -> None:
    path = folders[0] / "data" / "pairs.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(ConfigError, match="no instruction has a matrix in all"):
        agreement(folders, "")


def test_a_run_that_was_not_built_is_refused(folders: list[Path]) -> None:
    (folders[0] / "data" / "pairs.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"pairs\.jsonl: there are no pairs"):
        agreement(folders, "")
