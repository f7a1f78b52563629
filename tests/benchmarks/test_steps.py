"""All layouts take one step and count what they forward; the benchmarks say so in their rows."""

import json
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign.errors import ConfigError
from mmalign.testing.packages import require_package
from mmalign.testing.steps import BenchName, Plan, run_bench, write_section
from mmalign.testing.steps.layouts import Caches, Case, LayoutName, Layouts, ObjectiveName
from mmalign.testing.steps.measure import Inspection, grad_rel_diff, inspect_step, peak_in_child
from mmalign.testing.steps.world import (
    LlavaShape,
    QwenShape,
    World,
    llava_world,
    make_row,
    qwen_world,
)

ROOT = Path(__file__).parents[2]
TINY = LlavaShape(
    hidden_size=32, intermediate_size=64, num_layers=2, vocab_size=512, tower_hidden_size=16
)
TINY_QWEN = QwenShape(
    hidden_size=32,
    intermediate_size=64,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    vocab_size=512,
    tower_hidden_size=16,
    tower_intermediate_size=32,
    tower_layers=2,
    tower_heads=2,
    window_pixels=16,
    patch_pixels=4,
    frame_patches=4,
    lora_r=4,
)
PROMPT, ANSWER = 40, 6
WORLDS: dict[str, Callable[[torch.dtype], World]] = {
    "llava": lambda dtype: llava_world(TINY, dtype=dtype),
    "qwen under LoRA": lambda dtype: qwen_world(TINY_QWEN, device="cpu", dtype=dtype),
}
KEYS = {
    "bench",
    "layout",
    "caches",
    "model",
    "prompt_tokens",
    "answer_tokens",
    "branches",
    "cpu_s",
    "activation_bytes",
    "peak_bytes",
    "tokens_forwarded",
    "encoder_calls",
    "loss",
    "grad_rel_diff",
}
"""Of a row, as readers of --json know them."""


def case_of(
    layout: LayoutName, objective: ObjectiveName, branches: int, caches: Caches = "none"
) -> Case:
    if layout == "trl":
        require_package("trl")
    return Case("test", objective, layout, caches, PROMPT, ANSWER, branches)


def inspected(world: World, case: Case) -> Inspection:
    row = make_row(world, prompt_tokens=PROMPT, answer_tokens=ANSWER, branches=case.branches)
    return inspect_step(world, Layouts(world).step(case, row), row)


def assert_same_step(world: World, case: Case, tolerance: float) -> None:
    plain = inspected(world, case_of("plain", case.objective, case.branches))
    found = inspected(world, case)
    assert found.loss == pytest.approx(plain.loss, rel=tolerance, abs=tolerance)
    assert sum(float(gradient.norm()) for gradient in plain.gradients.values()) > 1e-3
    assert grad_rel_diff(found.gradients, plain.gradients) < tolerance


@pytest.mark.parametrize("layout", ["branch", "trl", "swift"])
@pytest.mark.parametrize(("objective", "branches"), [("dpo", 2), ("grpo", 2), ("grpo", 5)])
@pytest.mark.parametrize("name", WORLDS)
def test_every_layout_takes_the_plain_step(
    name: str, objective: ObjectiveName, branches: int, layout: LayoutName
) -> None:
    world = WORLDS[name](torch.float32)
    assert_same_step(world, case_of(layout, objective, branches), 1e-5)


@pytest.mark.parametrize("layout", ["branch", "swift"])
@pytest.mark.parametrize("name", WORLDS)
def test_the_steps_agree_in_float64(name: str, layout: LayoutName) -> None:
    assert_same_step(WORLDS[name](torch.float64), case_of(layout, "dpo", 2), 1e-6)


@pytest.mark.parametrize(
    ("objective", "caches"), [("dpo", "vision"), ("dpo", "reference"), ("grpo", "vision")]
)
@pytest.mark.parametrize("name", WORLDS)
def test_caches_do_not_change_the_step(name: str, objective: ObjectiveName, caches: Caches) -> None:
    world = WORLDS[name](torch.float32)
    assert_same_step(world, case_of("branch", objective, 2, caches), 1e-5)


@pytest.mark.parametrize("name", WORLDS)
def test_tokens_and_clips_of_a_pair(name: str) -> None:
    """Policy and reference: P + 2 R and one clip against 2 (P + R) and four clips."""
    world = WORLDS[name](torch.float32)
    short, long = PROMPT + 2 * ANSWER, 2 * (PROMPT + ANSWER)
    expected: dict[tuple[LayoutName, Caches], tuple[int, int]] = {
        ("branch", "none"): (2 * short, 1),
        ("branch", "vision"): (2 * short, 0),
        ("branch", "reference"): (short, 0),
        ("plain", "none"): (2 * long, 4),
        ("swift", "none"): (2 * long, 4),
        ("trl", "none"): (2 * long, 4),
    }
    for (layout, caches), counts in expected.items():
        found = inspected(world, case_of(layout, "dpo", 2, caches))
        assert (found.tokens_forwarded, found.encoder_calls) == counts, (layout, caches)


@pytest.mark.parametrize("branches", [2, 4, 8, 16])
def test_tokens_and_clips_of_a_group(branches: int) -> None:
    world = llava_world(TINY)
    expected: dict[LayoutName, tuple[int, int]] = {
        "branch": (PROMPT + branches * ANSWER, 1),
        "plain": (branches * (PROMPT + ANSWER), branches),
        "swift": (branches * (PROMPT + ANSWER), branches),
        "trl": (branches * (PROMPT + ANSWER), branches),
    }
    for layout, counts in expected.items():
        found = inspected(world, case_of(layout, "grpo", branches))
        assert (found.tokens_forwarded, found.encoder_calls) == counts, layout


def test_only_scored_positions_have_logits() -> None:
    """TRL's head scores every position on a CPU; ms-swift's layout one more than it needs."""
    world = llava_world(TINY)
    expected: dict[LayoutName, int] = {
        "branch": 2 * ANSWER,
        "plain": 2 * ANSWER,
        "swift": 2 * (ANSWER + 1),
        "trl": 2 * (PROMPT + ANSWER - 1),
    }
    for layout, positions in expected.items():
        found = inspected(world, case_of(layout, "dpo", 2))
        assert found.logits_alive == positions * TINY.vocab_size, layout


def test_the_branch_layout_keeps_less() -> None:
    world = llava_world(TINY)
    branch = inspected(world, case_of("branch", "grpo", 8)).activation_bytes
    plain = inspected(world, case_of("plain", "grpo", 8)).activation_bytes
    tokens = (PROMPT + 8 * ANSWER) / (8 * (PROMPT + ANSWER))
    assert tokens * 0.9 < branch / plain < tokens * 1.5


def test_another_gradient_is_seen() -> None:
    gradient = {"weight": torch.tensor([3.0, 4.0])}
    other = {"weight": torch.tensor([3.0, 4.5])}
    assert grad_rel_diff(other, gradient) == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="different weights: \\['bias'"):
        grad_rel_diff(gradient | {"bias": torch.ones(1)}, gradient)


def test_a_prompt_without_room_for_a_frame_is_refused() -> None:
    with pytest.raises(ConfigError, match="10 tokens has no room for a frame of 17"):
        make_row(llava_world(TINY), prompt_tokens=10, answer_tokens=2, branches=2)


def test_only_ours_reads_caches() -> None:
    world = llava_world(TINY)
    row = make_row(world, prompt_tokens=PROMPT, answer_tokens=ANSWER, branches=2)
    with pytest.raises(ConfigError, match="layout swift: caches is 'vision', expected one of none"):
        Layouts(world).step(case_of("swift", "dpo", 2, "vision"), row)


@pytest.mark.parametrize(("bench", "rows"), [("pair_step", 6), ("group_step", 10), ("memory", 16)])
def test_rows_of_a_benchmark(bench: BenchName, rows: int) -> None:
    require_package("trl")
    threads = torch.get_num_threads()
    plan = Plan(bench, (PROMPT,), (2, 3), ANSWER, repeats=2, peak=False, shape=TINY)
    result = run_bench(plan)
    assert {"machine", "versions", "rows"} <= result.keys()
    assert result["versions"]["trl"] is not None
    assert len(result["rows"]) == rows
    for row in result["rows"]:
        assert row.keys() >= KEYS
        assert row["bench"] == bench
        assert row["cpu_s"] > 0
        assert row["grad_rel_diff"] < 1e-5
        assert row["times_plain"] == 1.0 or row["layout"] != "plain"
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("script", ["pair_step", "group_step", "memory"])
def test_a_script_prints_one_object(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--prompts", "40", "--answer-tokens", "2", "--repeats", "1", "--no-peak", "--json"]
    groups = [] if script == "pair_step" else ["--groups", "2"]
    result = run_script(script, [*options, *groups], capsys)
    assert {row["bench"] for row in result["rows"]} == {script}
    assert {(row["prompt_tokens"], row["branches"]) for row in result["rows"]} == {(40, 2)}
    assert {row["layout"] for row in result["rows"]} >= {"branch", "plain", "swift"}
    assert result["rows"][0]["model"].startswith("LlavaOnevisionForConditionalGeneration, ")


def test_a_step_in_a_process_of_its_own() -> None:
    """Its peak holds all that is kept for the backward pass, and not the interpreter as well."""
    case = Case("memory", "grpo", "plain", "none", 1024, 32, 8)
    world = llava_world(TINY)
    row = make_row(world, prompt_tokens=1024, answer_tokens=32, branches=8)
    kept = inspect_step(world, Layouts(world).step(case, row), row).activation_bytes
    peak = peak_in_child(case, TINY)
    assert peak is not None
    assert 0.9 * kept < peak < 2 * kept + 200e6


@pytest.mark.slow  # the process imports for ten seconds before it fails
def test_a_failed_process_says_why() -> None:
    case = Case("memory", "grpo", "plain", "none", 4, 2, 2)
    with pytest.raises(ConfigError, match="no room for a frame"):
        peak_in_child(case, TINY)


def test_a_section_of_the_page_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs/performance.md").read_text(encoding="utf-8"), encoding="utf-8")
    plan = Plan("pair_step", (PROMPT,), (), ANSWER, repeats=1, peak=False, shape=TINY)
    result = run_bench(plan)
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result), encoding="utf-8")
    for _ in range(2):
        read = ["--read", str(file), "--write", str(page), "--json"]
        assert run_script("pair_step", read, capsys) == result
    text = page.read_text(encoding="utf-8")
    inside = text.partition("<!-- begin pair_step cpu -->")[2].partition("<!-- end")[0]
    assert inside.count("| mmalign, branch | reference |") == 1
    assert result["machine"] in inside
    with pytest.raises(ConfigError, match="expected rows of memory, found \\['pair_step'"):
        write_section(page, "memory", result)
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(ConfigError, match="begin pair_step cpu"):
        write_section(page, "pair_step", result)


def test_numbers_that_are_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_script("pair_step", ["--prompts", "2k"], capsys)
    assert "'2k': expected positive numbers" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_without_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        run_bench(Plan("pair_step", shape=TINY_QWEN))


def run_script(script: str, argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> Any:
    """What it prints as JSON; in this process, for the imports take longer than the steps."""
    main: Callable[..., int] = runpy.run_path(str(ROOT / f"benchmarks/{script}.py"))["main"]
    assert main(script, argv) == 0
    return json.loads(capsys.readouterr().out)
