"""Group RL on a tiny language model: the reward rises, and every number can be traced."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mmalign.errors import ConfigError
from mmalign.media import FrameSampling
from mmalign.models.families import EncodedPrompt
from mmalign.objectives import parse_objective
from mmalign.records import Lineage, PreferencePair, Rollout, Sample, Segment, user
from mmalign.rewards.contract import Episode, reward
from mmalign.rewards.reward import NotApplicable
from mmalign.testing.rollout_runs import (
    fit,
    questions,
    rollout_task,
    save_tiny,
    share_of_vowels,
    training_log,
    written_rollouts,
)
from mmalign.testing.tiny_models import tiny_causal_lm
from mmalign.training import LoraSettings, TrainerConfig, train
from mmalign.training.branches import score_branches
from mmalign.training.examples import Encoder
from mmalign.training.forward import Row
from mmalign.training.rollout_examples import Group, branch_of, example_of

GROUP_OBJECTIVES = ("grpo", "dr_grpo", "dapo", "gspo")


@pytest.fixture(scope="module")
def lm_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny_causal_lm"))


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def moved(folder: Path, start: Path) -> dict[str, Tensor]:
    before = weights(start)
    return {name: value - before[name] for name, value in weights(folder).items()}


def relative_gap(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    gap = torch.stack([(one[name] - other[name]).norm() for name in one]).norm()
    return float(gap / torch.stack([value.norm() for value in one.values()]).norm())


@pytest.mark.parametrize(
    ("name", "lora"),
    [*((name, None) for name in GROUP_OBJECTIVES), ("grpo", LoraSettings(lora_r=8, lora_alpha=16))],
    ids=[*(f"{name}-full" for name in GROUP_OBJECTIVES), "grpo-lora"],
)
def test_the_reward_rises(
    name: str, lora: LoraSettings | None, lm_dir: Path, tmp_path: Path
) -> None:
    fit(
        lm_dir,
        tmp_path,
        name,
        task=rollout_task(num_generations=8, max_completion_length=12),
        max_steps=30 if lora else 10,
        per_device_train_batch_size=4,
        learning_rate=3e-2 if lora else 1e-2,
        lora=lora,
    )
    log = training_log(tmp_path)
    assert log[-1]["reward"] > log[0]["reward"] + 0.12
    assert all(entry["sampling/logp_difference"] < 1e-4 for entry in log)
    if name == "grpo":
        assert log[0]["kl"] == pytest.approx(0.0, abs=1e-6)
        assert log[-1]["kl"] > 1e-3


def test_metrics_have_trls_names(lm_dir: Path, tmp_path: Path) -> None:
    fit(lm_dir, tmp_path, max_steps=1)
    (entry,) = training_log(tmp_path)
    expected = {
        "reward", "reward_std", "rewards/share_of_vowels/mean", "rewards/share_of_vowels/std",
        "frac_reward_zero_std", "kl", "entropy", "clip_ratio/low_mean", "clip_ratio/high_mean",
        "clip_ratio/region_mean", "completions/mean_length", "completions/clipped_ratio",
        "sampling/logp_difference",
    }  # fmt: skip
    assert expected <= entry.keys()
    rewards = [rollout.reward for _, rollout in written_rollouts(tmp_path)]
    assert entry["reward"] == pytest.approx(sum(r or 0.0 for r in rewards) / len(rewards))


def test_rollouts_are_written_with_rewards_advantages_and_authors(
    lm_dir: Path, tmp_path: Path
) -> None:
    fit(lm_dir, tmp_path)
    rows = written_rollouts(tmp_path)
    assert [step for step, _ in rows] == [0] * 8 + [1] * 8 + [2] * 8
    for start in range(0, 24, 4):
        group = [rollout for _, rollout in rows[start : start + 4]]
        assert len({rollout.sample_id for rollout in group}) == 1
        rewards = torch.tensor([rollout.reward for rollout in group], dtype=torch.float64)
        expected = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        found = torch.tensor([rollout.advantage for rollout in group], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert all(len(rollout.mask) == len(rollout.token_ids) for rollout in group)


def test_the_same_run_gives_the_same_weights(lm_dir: Path, tmp_path: Path) -> None:
    one, other = (weights(fit(lm_dir, tmp_path / name)) for name in ("one", "other"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_branches_and_plain_rows_give_one_step(lm_dir: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "max_steps": 1,
        "optim": "sgd",
        "max_grad_norm": 0,
        "learning_rate": 0.1,
    }
    one, other = (
        moved(fit(lm_dir, tmp_path / layout, layout=layout, **changes), lm_dir)
        for layout in ("branch", "plain")
    )
    assert relative_gap(one, other) < 1e-5


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo"])
def test_micro_batches_change_nothing(name: str, lm_dir: Path, tmp_path: Path) -> None:
    """Also where a part has few tokens: token-mean divides by those of the whole step."""
    changes: dict[str, Any] = {
        "max_steps": 1,
        "optim": "sgd",
        "max_grad_norm": 0,
        "learning_rate": 0.1,
    }
    settings = {"dynamic_sampling": False} if name == "dapo" else {}
    cuts = {"whole": (4, 1), "parts": (1, 4)}
    one, other = (
        moved(
            fit(
                lm_dir,
                tmp_path / cut,
                name,
                settings=settings,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=parts,
                **changes,
            ),
            lm_dir,
        )
        for cut, (size, parts) in cuts.items()
    )
    lengths = {len(rollout.token_ids) for _, rollout in written_rollouts(tmp_path / "whole")}
    assert len(lengths) > 1
    assert relative_gap(one, other) < 1e-5


def test_further_passes_clip_against_the_policy_that_sampled(lm_dir: Path, tmp_path: Path) -> None:
    fit(
        lm_dir,
        tmp_path,
        settings={"num_iterations": 2, "num_mini_batches": 2, "kl_weight": 0.0},
        max_steps=8,
        save_steps=4,
        learning_rate=1e-2,
    )
    log = training_log(tmp_path)
    assert [step for step, _ in written_rollouts(tmp_path)] == [0] * 16 + [4] * 16
    assert log[0]["clip_ratio/region_mean"] == 0.0
    assert log[0]["loss"] == pytest.approx(0.0, abs=1e-6)
    assert any(log[step]["clip_ratio/region_mean"] > 0 for step in (2, 3))
    assert all(abs(log[step]["loss"]) > 1e-5 for step in (2, 3))


@reward(low=0.0, high=1.0)
def constant(episode: Episode) -> float:
    """Teaches nothing."""
    return 0.5


def test_a_step_that_teaches_nothing_leaves_the_weights(
    lm_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mmalign.training.rollouts"):
        fit(
            lm_dir,
            tmp_path,
            settings={"kl_weight": 0.0},
            task=rollout_task(constant),
            weight_decay=0.1,
        )
    before = weights(lm_dir)
    assert all(torch.equal(value, before[name]) for name, value in weights(tmp_path).items())
    assert [entry["frac_reward_zero_std"] for entry in training_log(tmp_path)] == [1.0] * 3
    assert "in 2 of 2 groups all rewards are equal" in caplog.text


@reward(low=0.0, high=1.0)
def not_of_q1(episode: Episode) -> float | NotApplicable:
    """Has nothing to say about one of the questions."""
    if episode.sample.id == "q1":
        return NotApplicable("q1 has no vowels")
    return float(share_of_vowels(episode))


def test_groups_without_reward_are_dropped_by_name(lm_dir: Path, tmp_path: Path) -> None:
    fit(lm_dir, tmp_path, task=rollout_task(not_of_q1), max_steps=2)
    text = (tmp_path / "rollouts" / "dropped-0.jsonl").read_text(encoding="utf-8")
    (row,) = map(json.loads, text.splitlines())
    assert row["record"]["sample_id"] == "q1"
    assert row["record"]["reason"] == "no_reward"
    unknown = [r for _, r in written_rollouts(tmp_path) if r.sample_id == "q1"]
    assert [(r.reward, r.advantage) for r in unknown] == [(None, None)] * 4


@reward(low=0.0, high=1.0)
def equal_in_even(episode: Episode) -> float:
    """Differs within a group only where the question has an odd number."""
    return float(share_of_vowels(episode)) if int(episode.sample.id[1:]) % 2 else 0.0


def test_dynamic_sampling_fills_a_step_with_groups_that_teach(lm_dir: Path, tmp_path: Path) -> None:
    fit(
        lm_dir,
        tmp_path,
        "dapo",
        samples=questions(8),
        task=rollout_task(equal_in_even),
        max_steps=2,
    )
    learnt = [r for _, r in written_rollouts(tmp_path) if r.advantage is not None]
    assert len(learnt) == 2 * 2 * 4
    assert {int(rollout.sample_id[1:]) % 2 for rollout in learnt} == {1}
    text = (tmp_path / "rollouts" / "dropped-0.jsonl").read_text(encoding="utf-8")
    dropped = [json.loads(line)["record"] for line in text.splitlines()]
    assert dropped
    assert {row["reason"] for row in dropped} == {"equal_rewards"}


def test_dynamic_sampling_gives_up_after_its_rounds(lm_dir: Path, tmp_path: Path) -> None:
    fit(
        lm_dir,
        tmp_path,
        "dapo",
        settings={"max_sampling_rounds": 2},
        samples=questions(8),
        task=rollout_task(constant),
        max_steps=1,
    )
    assert len(written_rollouts(tmp_path)) == 2 * 2 * 4  # two prompts, two rounds, four rollouts
    before = weights(lm_dir)
    assert all(torch.equal(value, before[name]) for name, value in weights(tmp_path).items())


def test_truncated_rollouts_can_be_left_out_of_the_loss(lm_dir: Path, tmp_path: Path) -> None:
    """Their reward counts in the group: the advantages are those of all eight."""
    fit(
        lm_dir,
        tmp_path,
        settings={"mask_truncated_completions": True},
        task=rollout_task(num_generations=8, max_completion_length=12),
        per_device_train_batch_size=4,
        max_steps=1,
    )
    rows = [rollout for _, rollout in written_rollouts(tmp_path)]
    cut = [rollout for rollout in rows if rollout.stop == "length"]
    assert cut
    assert len(cut) < len(rows)
    assert all(rollout.advantage == 0.0 for rollout in cut)
    for start in range(0, len(rows), 8):
        rewards = torch.tensor([r.reward for r in rows[start : start + 8]], dtype=torch.float64)
        expected = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        for rollout, advantage in zip(rows[start : start + 8], expected.tolist(), strict=True):
            if rollout.stop != "length":
                assert rollout.advantage == pytest.approx(advantage, rel=1e-5)


def test_a_prompt_with_a_clip_takes_a_step(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    samples = [
        Sample(id=pair.sample_id, messages=pair.prompt, answer=pair.chosen.text)
        for pair in pairs[:4]
    ]
    fit(model_dir, tmp_path, samples=samples, max_steps=1)
    (entry,) = training_log(tmp_path)
    assert entry["sampling/logp_difference"] < 1e-4
    assert entry["grad_norm"] > 0
    assert all(rollout.num_prompt_tokens > 8 for _, rollout in written_rollouts(tmp_path))


def tool_rollout(prompt: EncodedPrompt, policy: list[int], observed: list[int]) -> Rollout:
    """Policy, observation, policy."""
    half = len(policy) // 2

    def sampled(ids: list[int]) -> Segment:
        return Segment(kind="policy", token_ids=tuple(ids), logps=(-1.0,) * len(ids), text="policy")

    return Rollout(
        sample_id="q0",
        draw_index=0,
        num_prompt_tokens=len(prompt.input_ids),
        segments=(
            sampled(policy[:half]),
            Segment(kind="observation", token_ids=tuple(observed), text="tool"),
            sampled(policy[half:]),
        ),
        stop="end",
        reward=1.0,
        lineage=Lineage(),
    )


@pytest.mark.parametrize("layout", ["branch", "plain"])
def test_no_gradient_reaches_an_observation_token(layout: Any) -> None:
    """Of the last states, those that predict tokens of a tool get a gradient of exactly 0."""
    tiny = tiny_causal_lm()
    encoder = Encoder(tiny.family, tiny.processor, FrameSampling())
    sample = questions()[0]
    prompt = encoder.prompt(sample.messages)
    rollout = tool_rollout(prompt, [40, 41, 42, 43], [50, 51, 52])
    branch = branch_of(rollout)
    assert branch.mask.tolist() == [True, True, False, False, False, True, True]
    states: list[Tensor] = []

    def keep(_: object, __: object, output: Any) -> None:
        output.last_hidden_state.retain_grad()
        states.append(output.last_hidden_state)

    handle = tiny.family.decoder(tiny.model).register_forward_hook(keep)
    rows = [Row(prompt, (branch, branch))]
    config = TrainerConfig(layout=layout)
    scores = score_branches(tiny.model, tiny.family, rows, config, reference=None)
    torch.autograd.backward(torch.cat(scores.logps).sum())
    handle.remove()
    assert [len(part) for part in scores.logps] == [4, 4]
    (state,) = states
    reached = (state.grad != 0).any(-1)  # type: ignore[union-attr]  # retained above
    assert int(reached.sum()) == (7 if layout == "branch" else 8)  # branches share the prompt's end


def test_an_observation_changes_what_follows_and_carries_no_loss() -> None:
    tiny = tiny_causal_lm()
    encoder = Encoder(tiny.family, tiny.processor, FrameSampling())
    sample = questions()[0]
    prompt = encoder.prompt(sample.messages)
    found = []
    for observed in ([50, 51, 52], [60, 61, 62]):
        rollout = tool_rollout(prompt, [40, 41, 42, 43], observed)
        example = example_of(Group(sample, (rollout,)), prompt, carries_loss=lambda _: True)
        assert example.num_tokens == 4
        scores = score_branches(
            tiny.model, tiny.family, example.rows, TrainerConfig(), reference=None
        )
        found.append(scores.logps[0])
    assert torch.equal(found[0][:2], found[1][:2])  # before the observation
    assert not torch.isclose(found[0][2:], found[1][2:]).any()


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the machine had failed in the middle of a step's rollouts."""
    from mmalign.training.rollouts import RolloutTrainer

    original = RolloutTrainer._report

    def stopping(self: RolloutTrainer, *args: Any) -> None:
        original(self, *args)
        if self.state.global_step >= step:
            raise KeyboardInterrupt

    monkeypatch.setattr(RolloutTrainer, "_report", stopping)


@reward(low=0.0, high=1.0)
def above_the_best(episodes: list[Episode], history: dict[str, Any]) -> list[float]:
    """Half the share of vowels, and as much again for a new best of this question."""
    shares = [float(share_of_vowels(episode)) for episode in episodes]
    best = history.get("best", -1.0)
    history["best"] = max(best, *shares)
    return [share / 2 * (2 if share > best else 1) for share in shares]


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    name: str, lm_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {
        "settings": {"num_iterations": 2},
        "task": rollout_task(above_the_best),
        "max_steps": 10,
        "save_steps": 4,
    }
    fit(lm_dir, tmp_path / "whole", name, **changes)
    with monkeypatch.context() as patched:
        stop_after(6, patched)
        with pytest.raises(KeyboardInterrupt):
            fit(lm_dir, tmp_path / "cut", name, **changes)
    assert written_rollouts(tmp_path / "cut")[-1][0] == 6
    fit(lm_dir, tmp_path / "cut", name, **changes)
    one, other = (weights(tmp_path / run) for run in ("whole", "cut"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert written_rollouts(tmp_path / "cut") == written_rollouts(tmp_path / "whole")
    state = json.loads((tmp_path / "cut" / "checkpoint-8" / "rollout_state.json").read_text())
    assert set(state["rewards"]["histories"]["above_the_best"]) == {"q0", "q1", "q2", "q3"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": rollout_task(num_generations=1)}, "num_generations is 1.*two or more"),
        ({"task": rollout_task(temperature=0.0)}, "temperature is 0"),
        ({"settings": {"num_iterations": 3}}, "serves 3 steps.*a multiple of 3"),
        ({"per_device_train_batch_size": 8}, "takes 8 prompts, the data set has 4"),
        ({"reference_logps": "store"}, "reference_logps: store"),
        ({"online": True}, "online: true builds pairs"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    changes: dict[str, Any], message: str, lm_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(lm_dir, tmp_path, **changes)


def test_an_objective_over_rollouts_wants_to_be_told_how(lm_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no rollouts"):
        train(
            str(lm_dir),
            questions(),
            tmp_path,
            objective=parse_objective({"name": "grpo"}),
            trainer=TrainerConfig(),
            lora=None,
            media=FrameSampling(),
        )


def test_the_price_of_leaving_the_reference_is_taken_off_the_reward(
    lm_dir: Path, tmp_path: Path
) -> None:
    """At the first step policy and reference agree, so it costs nothing; later it does."""
    prices = {}
    for weight in (0.0, 1.0):
        folder = tmp_path / str(weight)
        fit(lm_dir, folder, "rloo", settings={"reward_kl_weight": weight}, max_steps=2)
        prices[weight] = [rollout.advantage for _, rollout in written_rollouts(folder)]
    assert prices[0.0][:8] == pytest.approx(prices[1.0][:8], abs=1e-5)
    assert not any(
        math.isclose(one or 0.0, other or 0.0, abs_tol=1e-6)
        for one, other in zip(prices[0.0][8:], prices[1.0][8:], strict=True)
    )


def test_the_sample_is_named_when_prompts_differ() -> None:
    tiny = tiny_causal_lm()
    encoder = Encoder(tiny.family, tiny.processor, FrameSampling())
    shown, encoded = (encoder.prompt((user(text),)) for text in ("one?", "one, two, three?"))
    rollout = tool_rollout(shown, [40, 41], [50])
    with pytest.raises(ValueError, match=r"sample 'q0': the policy was shown a prompt of"):
        example_of(Group(questions()[0], (rollout,)), encoded, carries_loss=lambda _: True)
