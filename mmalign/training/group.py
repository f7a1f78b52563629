"""Group RL: a rollout is as good as it does better than the others of its prompt."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from accelerate.utils import gather_object
from torch import Tensor

from mmalign.objectives import RolloutTerms
from mmalign.objectives.aggregation import row_means
from mmalign.objectives.groups import group_advantages
from mmalign.objectives.policy_gradient import PolicyLoss
from mmalign.objectives.rollouts import GroupSettings
from mmalign.training.branches import BranchScores
from mmalign.training.examples import Batch
from mmalign.training.rollout_examples import Group, RolloutExample, padded, per_example
from mmalign.training.rollouts import RolloutTrainer
from mmalign.training.trainer import ItemLosses

__all__ = ["GroupTrainer", "nothing_to_learn", "policy_metrics", "policy_terms"]


class GroupTrainer(RolloutTrainer):
    """GRPO and its kin: advantages by group, clipped policy loss, KL to the reference.

    Rollouts whose gradient is exactly 0 (an advantage of 0 and no KL in the loss) are left out of
    the forward pass, and stay in what the loss is averaged over.
    """

    settings: GroupSettings

    def fill(self, generation: int, groups: dict[int, Group]) -> dict[int, Group]:
        """With dynamic sampling, groups of equal rewards give way to those of further prompts.

        Which prompt comes next depends on the seed and the generation, not on the processes. What
        is still vacant after the last round is left vacant.
        """
        if not self.settings.dynamic_sampling:
            return groups
        further = self.order.further(generation)
        for round_ in range(1, self.settings.max_sampling_rounds + 1):
            vacant = sorted(gather_object([p for p, g in groups.items() if not _teaches(g)]))
            if not vacant or round_ == self.settings.max_sampling_rounds or not further:
                break
            candidates = dict(zip(vacant, further, strict=False))
            further = further[len(candidates) :]
            prompts = {p: self.samples[i] for p, i in candidates.items() if p in groups}
            for place, group in self.roll_out(prompts, generation, round_=round_).items():
                self.drop(groups[place], "equal_rewards", f"round {round_}: they teach nothing")
                groups[place] = group
        kept = {place: group for place, group in groups.items() if _teaches(group)}
        for place in groups.keys() - kept.keys():
            self.drop(groups[place], "equal_rewards", "no further prompt was tried in its place")
        return kept

    def weigh(self, examples: Sequence[RolloutExample]) -> list[RolloutExample]:
        """Advantages in the group, by statistics of the whole generation."""
        weighed = list(examples)
        if self.settings.reward_kl_weight > 0:
            weighed = self.measure(weighed, _with_reference, with_reference=True)
        advantages = self._advantages([self._priced(example) for example in weighed])
        weighed = [
            replace(example, advantages=found).keep(example.carries_loss.__getitem__)
            for example, found in zip(weighed, advantages, strict=True)
        ]
        if self.settings.loss_kl_weight == 0:
            weighed = [_without_zeros(example) for example in weighed]
        is_anchored = self.settings.reward_kl_weight > 0
        if self.settings.steps_per_generation > 1 and not is_anchored:
            weighed = self.measure(
                weighed, _with_old_logps, with_reference=self.settings.loss_kl_weight > 0
            )
        return weighed

    def item_losses(self, batch: Batch) -> ItemLosses:
        """The objective's shares of the step's loss, summed over rollouts."""
        if not batch.examples:
            return nothing_to_learn(self)
        examples = [e for e in batch.examples if isinstance(e, RolloutExample)]
        stored = examples[0].ref_logps is not None
        asks = self.settings.loss_kl_weight > 0 and not stored
        scores = self.score_rollouts(
            batch.rows,
            reference=self.reference if asks else None,
            measures=frozenset({"entropy"}),
        )
        advantages = torch.stack([a for e in examples for a in e.advantages])
        terms = policy_terms(self, examples, scores, advantages.to(self.args.device))
        result = self.objective.loss(terms)
        return ItemLosses(
            total=result.loss.sum(), metrics=policy_metrics(batch, examples, scores, terms, result)
        )

    def _advantages(self, rewards: list[list[float]]) -> list[tuple[Tensor, ...]]:
        """Of the groups of this process, by statistics of those of all processes."""
        everywhere = gather_object([rewards])
        groups = [group for part in everywhere for group in part]
        # a lone reward is compared with an unknown one, which gives it an advantage of 0
        sizes = [max(2, len(group)) for group in groups]
        known = [g + [math.nan] * (size - len(g)) for g, size in zip(groups, sizes, strict=True)]
        flat = [reward for group in known for reward in group]
        found = group_advantages(
            torch.tensor(flat, dtype=torch.float64),
            torch.arange(len(groups)).repeat_interleave(torch.tensor(sizes, dtype=torch.long)),
            scale=self.settings.advantage_scale,
            std_eps=self.settings.std_eps,
        )
        per_group = [
            tuple(part[: len(group)].float())
            for part, group in zip(torch.split(found, sizes), groups, strict=True)
        ]
        start = sum(map(len, everywhere[: self.args.process_index]))
        return per_group[start : start + len(rewards)]

    def _priced(self, example: RolloutExample) -> list[float]:
        """Rewards, less the log-ratio of the whole rollout where it has a price."""
        weight = self.settings.reward_kl_weight
        if weight == 0 or example.old_logps is None or example.ref_logps is None:
            return list(example.rewards)
        return [
            reward - weight * float((old - ref).sum())
            for reward, old, ref in zip(
                example.rewards, example.old_logps, example.ref_logps, strict=True
            )
        ]


def policy_terms(
    trainer: RolloutTrainer,
    examples: Sequence[RolloutExample],
    scores: BranchScores,
    advantages: Tensor,
) -> RolloutTerms:
    """What a policy loss reads of a forward pass over all branches of the examples."""
    device = advantages.device
    old = [logps for e in examples for logps in e.old_logps or ()]
    stored = [logps for e in examples for logps in e.ref_logps or ()]
    ref = list(scores.ref_logps or stored)
    return RolloutTerms(
        policy_token_logps=padded(scores.logps, device),
        mask=padded([torch.ones_like(part) for part in scores.logps], device),
        advantages=advantages,
        counts=trainer.counts,
        max_completion_tokens=trainer.task.config.max_completion_length,
        old_token_logps=padded(old, device) if old else None,
        ref_token_logps=padded(ref, device) if ref else None,
    )


def policy_metrics(
    batch: Batch,
    examples: Sequence[RolloutExample],
    scores: BranchScores,
    terms: RolloutTerms,
    result: PolicyLoss,
) -> dict[str, Tensor]:
    """Entropy, KL, where the clip binds, and how far sampler and trainer are apart; [E] each."""
    mask = terms.mask
    sampled = padded([logps for e in examples for logps in e.sampled_logps], mask.device)
    at_sampling = terms.old_token_logps
    if at_sampling is None:
        at_sampling = terms.policy_token_logps.detach()
    is_whole = result.clipped.ndim == 1  # a rollout is clipped, not its tokens
    signs = terms.advantages
    if signs.ndim < result.clipped.ndim:
        signs = signs.unsqueeze(-1)

    def share(clipped: Tensor) -> Tensor:
        rows = clipped.float() if is_whole else row_means(clipped.float(), mask)
        return per_example(batch, rows)

    metrics = {
        "sampling/logp_difference": per_example(
            batch, row_means((sampled - at_sampling).abs(), mask)
        ),
        "clip_ratio/low_mean": share(result.clipped & (signs < 0)),
        "clip_ratio/high_mean": share(result.clipped & (signs > 0)),
        "clip_ratio/region_mean": share(result.clipped),
        **{name: per_example(batch, values) for name, values in result.metrics.items()},
    }
    if scores.entropy is not None:
        metrics["entropy"] = per_example(
            batch, row_means(padded(scores.entropy, mask.device).detach(), mask)
        )
    return metrics


def nothing_to_learn(trainer: RolloutTrainer) -> ItemLosses:
    """A loss of 0 that other processes' gradients can be added to."""
    some = next(p for p in trainer.policy.parameters() if p.requires_grad)
    return ItemLosses(total=some.sum() * 0.0, metrics={})


def _teaches(group: Group) -> bool:
    return len({r.reward for r in group.rollouts if r.reward is not None}) > 1


def _without_zeros(example: RolloutExample) -> RolloutExample:
    return example.keep(lambda index: bool(example.advantages[index] != 0))


def _with_old_logps(example: RolloutExample, scores: BranchScores) -> RolloutExample:
    kept = replace(example, old_logps=scores.logps)
    return replace(kept, ref_logps=scores.ref_logps) if scores.ref_logps is not None else kept


def _with_reference(example: RolloutExample, scores: BranchScores) -> RolloutExample:
    return replace(example, old_logps=scores.logps, ref_logps=scores.ref_logps)
