"""Preference optimisation: any objective of the table over pairs."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mmalign.errors import RecordError
from mmalign.objectives import PairTerms, check_terms
from mmalign.training.examples import Batch
from mmalign.training.trainer import ItemLosses, ObjectiveTrainer

__all__ = ["PreferenceTrainer", "scores_of"]


class PreferenceTrainer(ObjectiveTrainer):
    """Learns from pairs; computes no more than what its objective needs."""

    _chosen_tokens_per_pair: Tensor | None = None

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """Also count the chosen tokens of the step, over all processes."""
        batches, num_pairs = super().get_batch_samples(epoch_iterator, num_batches, device)
        tokens = [
            int(batch.branches[i].mask.sum())
            for batch in batches
            for i in range(0, len(batch.branches), 2)
        ]
        total = self.accelerator.gather(torch.tensor(sum(tokens), device=device)).sum()
        self._chosen_tokens_per_pair = total / num_pairs
        return batches, num_pairs

    def item_losses(self, batch: Batch) -> ItemLosses:
        """The objective's loss, summed over pairs."""
        terms = self.pair_terms(batch)
        check_terms(terms, [example.id for example in batch.examples])
        result = self.objective.loss(terms)
        chosen_logps = (terms.policy_chosen_token_logps.detach() * terms.chosen_mask).sum(-1)
        rejected_logps = (terms.policy_rejected_token_logps.detach() * terms.rejected_mask).sum(-1)
        metrics = {
            "loss_per_pair": result.loss.detach(),
            "rewards/chosen": result.chosen_rewards,
            "rewards/rejected": result.rejected_rewards,
            "rewards/margins": result.chosen_rewards - result.rejected_rewards,
            "rewards/accuracies": (result.chosen_rewards > result.rejected_rewards).float(),
            "logps/chosen": chosen_logps,
            "logps/rejected": rejected_logps,
            **result.metrics,
        }
        return ItemLosses(total=result.loss.sum(), metrics=metrics)

    def pair_terms(self, batch: Batch) -> PairTerms:
        """What the objective reads, from one forward pass of policy and reference."""
        needs = self.objective.objective.needs
        scores = self.score_branches(batch.rows)
        chosen_logps, rejected_logps = _sides(scores.logps)
        ref_logps = _sides_of(scores.ref_logps)
        entropy, js = _sides_of(scores.entropy), _sides_of(scores.js)
        chosen_mask, rejected_mask = _sides([torch.ones_like(part) for part in scores.logps])
        chosen_phrases, rejected_phrases = (
            _sides(_phrase_ids(batch)) if "spans" in needs else (None, None)
        )
        return PairTerms(
            policy_chosen_token_logps=chosen_logps,
            policy_rejected_token_logps=rejected_logps,
            chosen_mask=chosen_mask,
            rejected_mask=rejected_mask,
            ref_chosen_token_logps=ref_logps[0],
            ref_rejected_token_logps=ref_logps[1],
            chosen_phrase_ids=chosen_phrases,
            rejected_phrase_ids=rejected_phrases,
            chosen_token_kl=_sides_of(scores.kl)[0],
            chosen_token_entropy=entropy[0],
            rejected_token_entropy=entropy[1],
            chosen_token_js=js[0],
            rejected_token_js=js[1],
            chosen_tokens_per_pair=self._chosen_tokens_per_pair,
            chosen_scores=scores_of(batch, 0) if "scores" in needs else None,
            rejected_scores=scores_of(batch, 1) if "scores" in needs else None,
            weights=chosen_logps.new_tensor([example.weight for example in batch.examples])
            if "weights" in needs
            else None,
        )


def scores_of(batch: Batch, place: int) -> Tensor:
    """[B] scores of the response at that place of each record.

    Raises:
        RecordError: A response has no score.
    """
    scores = torch.tensor([example.scores[place] for example in batch.examples])
    for example, score in zip(batch.examples, scores.tolist(), strict=True):
        if math.isnan(score):
            raise RecordError(
                f"record {example.id!r}: response {place} has no score, which the objective "
                f"reads; give every response one"
            )
    return scores.to(batch.branches[0].input_ids.device)


def _phrase_ids(batch: Batch) -> list[Tensor]:
    """Per branch, of its scored tokens."""
    phrase_ids = [ids for example in batch.examples for ids in example.phrase_ids]
    return [ids[b.mask] for ids, b in zip(phrase_ids, batch.branches, strict=True)]


def _sides_of(branches: Sequence[Tensor] | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if branches is None else _sides(branches)


def _sides(branches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """[B, T] of the chosen and [B, T'] of the rejected branches, padded with 0 behind."""
    chosen = nn.utils.rnn.pad_sequence(list(branches[0::2]), batch_first=True)
    rejected = nn.utils.rnn.pad_sequence(list(branches[1::2]), batch_first=True)
    return chosen, rejected
