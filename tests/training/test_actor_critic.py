"""PPO on a tiny language model: values before tokens, observations jumped over, both losses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from mmalign.media import FrameSampling
from mmalign.objectives import BatchCounts, parse_objective
from mmalign.objectives.actor_critic import masked_gae
from mmalign.records import Lineage, Rollout, Segment
from mmalign.testing.rollout_runs import (
    fit,
    questions,
    rollout_task,
    save_tiny,
    training_log,
    written_rollouts,
)
from mmalign.testing.tiny_models import tiny_causal_lm
from mmalign.training import LoraSettings, TrainerConfig
from mmalign.training.actor_critic import VALUE_HEAD_FILE, PPOTrainer
from mmalign.training.examples import Encoder, SampleDataset
from mmalign.training.rollout_examples import Group, RolloutExample, example_of

SETTINGS = {"reward_kl_weight": 0.01, "value_learning_rate": 1e-2}


@pytest.fixture(scope="module")
def lm_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny_causal_lm"))


@pytest.mark.parametrize("name", ["ppo"], ids=["ppo-full"])
def test_the_reward_rises(name: str, lm_dir: Path, tmp_path: Path) -> None:
    fit(
        lm_dir,
        tmp_path,
        name,
        settings=SETTINGS | {"num_iterations": 2, "num_mini_batches": 2},
        task=rollout_task(num_generations=8, max_completion_length=12),
        max_steps=32,
        save_steps=32,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
    )
    log = training_log(tmp_path)
    rewards = [entry["reward"] for entry in log if "reward" in entry]
    assert rewards[-1] > rewards[0] + 0.12
    assert log[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert log[0]["sampling/logp_difference"] < 1e-4
    assert log[-1]["value/error"] < log[0]["value/error"]


def test_an_adapter_is_trained_beside_the_head(lm_dir: Path, tmp_path: Path) -> None:
    lora = LoraSettings(lora_r=4, lora_alpha=8)
    fit(lm_dir, tmp_path, "ppo", settings=SETTINGS, max_steps=2, lora=lora)
    adapter = load_file(tmp_path / "adapter_model.safetensors")
    assert not any("value_head" in name for name in adapter)
    assert any(value.abs().sum() > 0 for name, value in adapter.items() if "lora_B" in name)
    assert load_file(tmp_path / VALUE_HEAD_FILE)["weight"].abs().sum() > 0
    log = training_log(tmp_path)
    assert log[0]["kl"] == pytest.approx(0.0, abs=1e-6)  # the reference is the adapter switched off
    assert abs(log[1]["kl"]) > 1e-6


def test_the_policy_loads_without_the_head_that_is_kept_beside_it(
    lm_dir: Path, tmp_path: Path
) -> None:
    fit(lm_dir, tmp_path, "ppo", settings=SETTINGS, max_steps=2, save_steps=1)
    for folder in (tmp_path, tmp_path / "checkpoint-1"):
        names = load_file(folder / "model.safetensors").keys()
        assert not any("value_head" in name for name in names)
        head = load_file(folder / VALUE_HEAD_FILE)
        assert head["weight"].dtype == torch.float32
        assert head["weight"].abs().sum() > 0
    AutoModelForCausalLM.from_pretrained(tmp_path)


def make_trainer(folder: Path, **settings: Any) -> PPOTrainer:
    tiny = tiny_causal_lm()
    config = TrainerConfig(per_device_train_batch_size=2)
    encoder = Encoder(tiny.family, tiny.processor, FrameSampling())
    trainer = PPOTrainer(
        tiny.model,
        family=tiny.family,
        processor=tiny.processor,
        dataset=SampleDataset(questions(), ()),
        config=config,
        output_dir=folder,
        manifest={},
        objective=parse_objective({"name": "ppo", **SETTINGS, **settings}),
        reference=None,
        task=rollout_task(num_generations=1),
        encoder=encoder,
    )
    with torch.no_grad():
        nn.init.normal_(trainer.value_head.weight)
    return trainer


def an_example(trainer: PPOTrainer, policy: list[int], observed: list[int]) -> RolloutExample:
    """Two tokens of the policy, an observation, the rest of the policy's tokens."""
    sample = questions()[0]
    encoder = Encoder(trainer.family, trainer.processing_class, FrameSampling())
    prompt = encoder.prompt(sample.messages)

    def sampled(ids: list[int]) -> Segment:
        return Segment(kind="policy", token_ids=tuple(ids), logps=(-1.0,) * len(ids), text="p")

    rollout = Rollout(
        sample_id=sample.id,
        draw_index=0,
        num_prompt_tokens=len(prompt.input_ids),
        segments=(
            sampled(policy[:2]),
            Segment(kind="observation", token_ids=tuple(observed), text="tool"),
            sampled(policy[2:]),
        ),
        stop="end",
        reward=1.0,
        lineage=Lineage(),
    )
    return example_of(Group(sample, (rollout,)), prompt, carries_loss=lambda _: True)


def values_of(trainer: PPOTrainer, example: RolloutExample) -> Tensor:
    (measured,) = trainer.measure([example], trainer._with_values, with_reference=False)
    assert measured.old_values is not None
    return measured.old_values[0]


def test_a_value_is_that_of_the_state_before_its_token(tmp_path: Path) -> None:
    """Another token changes the values behind it and not its own."""
    trainer = make_trainer(tmp_path)
    one = values_of(trainer, an_example(trainer, [40, 41, 42, 43], [50]))
    other = values_of(trainer, an_example(trainer, [40, 41, 99, 43], [50]))
    assert torch.equal(one[:3], other[:3])
    assert not torch.isclose(one[3], other[3])


def test_an_observation_is_jumped_over_in_time(tmp_path: Path) -> None:
    """Advantages are those of a rollout of the policy's tokens alone, with the same values."""
    trainer = make_trainer(tmp_path, gamma=0.9, gae_lambda=0.8)
    example = an_example(trainer, [40, 41, 42, 43], [50, 51, 52])
    (measured,) = trainer.measure([example], trainer._with_values, with_reference=False)
    found = trainer._with_gae(measured)
    values = values_of(trainer, example)
    assert len(values) == 4
    rewards = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    expected = masked_gae(rewards, values[None], torch.ones(1, 4), gamma=0.9, gae_lambda=0.8)
    torch.testing.assert_close(found.advantages[0], expected.advantages[0])
    assert found.returns is not None
    torch.testing.assert_close(found.returns[0], expected.returns[0])


def test_the_first_step_has_no_policy_loss_and_both_gradients(tmp_path: Path) -> None:
    """Whitened advantages have mean 0 and the ratio is 1; the head learns from the returns."""
    trainer = make_trainer(tmp_path)
    (example,) = trainer.weigh([an_example(trainer, [40, 41, 42, 43], [50])])
    assert float(torch.cat(example.advantages).mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(torch.cat(example.advantages).std()) == pytest.approx(1.0, abs=1e-4)
    trainer.counts = BatchCounts(torch.tensor(1), torch.tensor(4))
    from mmalign.training.examples import Batch

    losses = trainer.item_losses(Batch((example,)))
    torch.autograd.backward(losses.total)
    assert example.returns is not None
    assert example.old_values is not None
    error = (example.old_values[0] - example.returns[0]).square().mean() / 2
    expected = trainer.settings.value_weight * float(error)
    assert losses.total.item() == pytest.approx(expected, rel=1e-4)
    assert trainer.value_head.weight.grad is not None
    assert trainer.value_head.weight.grad.norm() > 0
    assert float(losses.metrics["clip_ratio/region_mean"]) == 0.0


def test_the_head_has_a_learning_rate_of_its_own(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, value_learning_rate=0.125)
    optimizer = trainer.create_optimizer()
    rates = {
        id(parameter): group["lr"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(rates) == sum(p.requires_grad for p in trainer.policy.parameters())
    assert {rates[id(p)] for p in trainer.value_head.parameters()} == {0.125}
    others = {
        rate for key, rate in rates.items() if key not in map(id, trainer.value_head.parameters())
    }
    assert others == {trainer.args.learning_rate}


def test_the_kls_weight_is_steered_and_survives_a_checkpoint(lm_dir: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"target_kl": 100.0, "kl_horizon": 16}
    fit(lm_dir, tmp_path, "ppo", settings=settings, max_steps=3, save_steps=1)
    weights = [
        json.loads((tmp_path / f"checkpoint-{step}" / "rollout_state.json").read_text())[
            "kl_weight"
        ]
        for step in (2, 3)
    ]
    # 8 rollouts a step, far below the target: a tenth less each time
    assert weights == pytest.approx([0.01 * 0.9**2, 0.01 * 0.9**3])


def test_one_rollout_of_a_prompt_is_enough(lm_dir: Path, tmp_path: Path) -> None:
    fit(lm_dir, tmp_path, "ppo", settings=SETTINGS, task=rollout_task(num_generations=1))
    assert len(written_rollouts(tmp_path)) == 3 * 2
    assert all(entry["grad_norm"] > 0 for entry in training_log(tmp_path))
