"""PPO: a critic says what every token was worth, so no group is needed.

The critic is a head of one linear layer, in float32, on the policy's own last states, with a
learning rate of its own: a second backbone would double the memory. So the value loss, weighted by
`value_weight`, also moves the shared weights (with LoRA, the adapter). The state that predicts a
token is the one before it, so its value is the value before the token.

Left out: a critic with weights of its own, and steps that warm the critic up alone.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmalign.objectives.actor_critic import (
    TokenMoments,
    adaptive_kl_weight,
    clipped_value_loss,
    masked_gae,
    merge_moments,
    token_moments,
    token_rewards,
    whiten,
)
from mmalign.objectives.aggregation import row_means
from mmalign.objectives.rollouts import PPOConfig
from mmalign.training.branches import BranchScores
from mmalign.training.examples import Batch
from mmalign.training.forward import base_model
from mmalign.training.group import nothing_to_learn, policy_metrics, policy_terms
from mmalign.training.rollout_examples import RolloutExample, padded, per_example
from mmalign.training.rollouts import RolloutTrainer
from mmalign.training.trainer import ItemLosses

__all__ = ["VALUE_HEAD_FILE", "PPOTrainer"]

VALUE_HEAD_FILE = "value_head.safetensors"
_HEAD = "value_head"
_MAX_FIRST_KL = 1e-3


class PPOTrainer(RolloutTrainer):
    """Token rewards with the KL to the reference, masked GAE, two clipped losses in one step."""

    settings: PPOConfig

    def __init__(self, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        size = base_model(model).config.get_text_config().hidden_size
        self.value_head = nn.Linear(size, 1, dtype=torch.float32)
        nn.init.zeros_(self.value_head.weight)  # it begins by expecting nothing
        nn.init.zeros_(self.value_head.bias)
        model.add_module(_HEAD, self.value_head)
        super().__init__(model, *args, **kwargs)
        self.kl_weight = self.settings.reward_kl_weight

    def weigh(self, examples: Sequence[RolloutExample]) -> list[RolloutExample]:
        """Advantages by the critic as it was at sampling time, whitened over the generation."""
        measured = [
            example.keep(example.carries_loss.__getitem__)
            for example in self.measure(
                examples, self._with_values, with_reference=self.settings.uses_reference
            )
        ]
        weighed = [self._with_gae(example) for example in measured]
        moments = [_moments(example) for example in weighed if example.places]
        everywhere = [TokenMoments(*map(torch.tensor, part)) for part in gather_object(moments)]
        if everywhere:
            total = merge_moments(everywhere)
            weighed = [_whitened(example, total) for example in weighed]
        self._watch_kl(measured)
        return weighed

    def item_losses(self, batch: Batch) -> ItemLosses:
        """Both losses' shares of the step, summed over rollouts."""
        if not batch.examples:
            return nothing_to_learn(self)
        examples = [e for e in batch.examples if isinstance(e, RolloutExample)]
        scores = self.score_rollouts(batch.rows, reference=None, measures=frozenset({"entropy"}))
        device = scores.logps[0].device
        advantages = padded([a for e in examples for a in e.advantages], device)
        terms = policy_terms(self, examples, scores, advantages)
        result = self.objective.loss(terms)
        values = padded(self._values(scores), device)
        returns = padded([r for e in examples for r in e.returns or ()], device)
        value = clipped_value_loss(
            values,
            padded([v for e in examples for v in e.old_values or ()], device),
            returns,
            terms.mask,
            self.counts,
            clip_value=self.settings.clip_value,
            loss_aggregation=self.settings.loss_aggregation,
            max_completion_tokens=terms.max_completion_tokens,
        )
        errors = (values.detach() - returns).square()
        metrics = policy_metrics(batch, examples, scores, terms, result) | {
            "value/mean": per_example(batch, row_means(values, terms.mask)),
            "value/error": per_example(batch, row_means(errors, terms.mask)),
            "value/clip_ratio": per_example(batch, row_means(value.clipped.float(), terms.mask)),
        }
        total = result.loss.sum() + self.settings.value_weight * value.loss.sum()
        return ItemLosses(total=total, metrics=metrics)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The value head gets a group of its own."""
        optimizer = super().create_optimizer(model)
        own = {id(p) for p in self.value_head.parameters()}
        for group in optimizer.param_groups:
            group["params"] = [p for p in group["params"] if id(p) not in own]
        optimizer.add_param_group(
            {
                "params": list(self.value_head.parameters()),
                "lr": self.settings.value_learning_rate,
                "weight_decay": 0.0,
            }
        )
        return optimizer

    def rollout_state(self) -> dict[str, Any]:
        """Also the KL's weight, which may be steered."""
        return {**super().rollout_state(), "kl_weight": self.kl_weight}

    def load_rollout_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_rollout_state(state)
        self.kl_weight = float(state["kl_weight"])

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The policy as anybody loads it, and the value head beside it."""
        folder = Path(output_dir or str(self.args.output_dir))
        with _without_head(self.policy):
            super()._save(output_dir, state_dict)
        if self.args.should_save:
            save_file(dict(self.value_head.state_dict()), folder / VALUE_HEAD_FILE)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        with _without_head(self.policy):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.value_head.load_state_dict(load_file(Path(resume_from_checkpoint) / VALUE_HEAD_FILE))

    def _values(self, scores: BranchScores) -> list[Tensor]:
        """[T] of each branch: of the state before each of its tokens."""
        device_type = self.args.device.type
        with torch.autocast(device_type, enabled=False):  # in bfloat16 small values are lost
            return [self.value_head(hidden.float()).squeeze(-1) for hidden in scores.hidden]

    def _with_values(self, example: RolloutExample, scores: BranchScores) -> RolloutExample:
        values = [found.cpu() for found in self._values(scores)]
        logps = tuple(found.cpu() for found in scores.logps)
        ref = scores.ref_logps
        return replace(
            example,
            old_logps=logps,
            old_values=tuple(values),
            ref_logps=logps if ref is None else tuple(found.cpu() for found in ref),
        )

    def _with_gae(self, example: RolloutExample) -> RolloutExample:
        """Advantages, not yet whitened, and returns, of each rollout by itself."""
        advantages: list[Tensor] = []
        returns: list[Tensor] = []
        for reward, old, ref, values in zip(
            example.rewards,
            example.old_logps or (),
            example.ref_logps or (),
            example.old_values or (),
            strict=True,
        ):
            mask = torch.ones_like(old).unsqueeze(0)
            rewards = token_rewards(
                torch.tensor([reward]),
                old.unsqueeze(0),
                ref.unsqueeze(0),
                mask,
                kl_weight=self.kl_weight,
            )
            found = masked_gae(
                rewards,
                values.unsqueeze(0),
                mask,
                gamma=self.settings.gamma,
                gae_lambda=self.settings.gae_lambda,
            )
            advantages.append(found.advantages[0])
            returns.append(found.returns[0])
        return replace(example, advantages=tuple(advantages), returns=tuple(returns))

    def _watch_kl(self, examples: Sequence[RolloutExample]) -> None:
        """Log the KL at sampling time, steer its weight, and tell a reference that does not fit."""
        if not self.settings.uses_reference:
            return
        pairs = [
            (float((old - ref).sum()), len(old))
            for e in examples
            for old, ref in zip(e.old_logps or (), e.ref_logps or (), strict=True)
        ]
        everywhere = gather_object(pairs)
        if not everywhere:
            return
        kl = math.fsum(total for total, _ in everywhere) / len(everywhere)
        per_token = math.fsum(t for t, _ in everywhere) / sum(n for _, n in everywhere)
        self.record_metrics({"kl": per_token, "kl_weight": self.kl_weight})
        if self.state.global_step == 0 and abs(per_token) > _MAX_FIRST_KL:
            self.warn(
                "first_kl",
                f"policy and reference differ by {per_token:.4f} nats a token before the first "
                f"step; the reference is another model than the one that training begins with",
            )
        if self.settings.target_kl is not None:
            self.kl_weight = adaptive_kl_weight(
                self.kl_weight,
                kl,
                target=self.settings.target_kl,
                horizon=self.settings.kl_horizon,
                num_steps=len(everywhere),
            )


def _moments(example: RolloutExample) -> tuple[float, float, float]:
    joined = torch.cat(example.advantages).double().unsqueeze(0)
    found = token_moments(joined, torch.ones_like(joined))
    return float(found.num_tokens), float(found.mean), float(found.squares)


def _whitened(example: RolloutExample, moments: TokenMoments) -> RolloutExample:
    return replace(
        example,
        advantages=tuple(
            whiten(part.double().unsqueeze(0), torch.ones(1, len(part)), moments)[0].float()
            for part in example.advantages
        ),
    )


@contextlib.contextmanager
def _without_head(policy: nn.Module) -> Iterator[None]:
    """The policy as transformers and PEFT know it."""
    head = policy._modules.pop(_HEAD)
    try:
        yield
    finally:
        policy._modules[_HEAD] = head
