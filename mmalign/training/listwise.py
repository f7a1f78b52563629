"""Preference optimisation over ranked lists of responses."""

from typing import Any

import torch
from torch import nn

from mmalign.errors import ShapeError
from mmalign.objectives import ChosenObjective, ListLoss, ListTerms
from mmalign.training.branches import score_branches
from mmalign.training.examples import Batch
from mmalign.training.preference import scores_of
from mmalign.training.reference import Reference
from mmalign.training.trainer import AlignmentTrainer, ItemLosses

__all__ = ["ListwiseTrainer"]


class ListwiseTrainer(AlignmentTrainer):
    """Learns from rankings; all of one batch have the same number of responses."""

    def __init__(
        self,
        model: nn.Module,
        *args: Any,
        objective: ChosenObjective,
        reference: Reference | None,
        **kwargs: Any,
    ) -> None:
        self.objective: ChosenObjective = objective
        self.reference = reference
        super().__init__(model, *args, **kwargs)

    def item_losses(self, batch: Batch) -> ItemLosses:
        """The objective's loss, summed over lists."""
        num_lists, num_responses = len(batch.examples), len(batch.examples[0].scores)
        sizes = {len(example.scores) for example in batch.examples}
        if len(sizes) > 1:
            raise ShapeError(
                f"the rankings of one batch have {sorted(sizes)} responses; give all the same "
                f"number, or set per_device_train_batch_size: 1"
            )
        scores = score_branches(
            self.policy, self.family, batch.rows, self.config, reference=self.reference
        )
        logps = torch.stack([part.sum() for part in scores.logps]).view(num_lists, num_responses)
        if not logps.isfinite().all():
            raise ShapeError(
                f"log-probabilities of {[e.id for e in batch.examples]} are not finite; the model "
                f"overflows or the input is broken"
            )
        terms = ListTerms(
            policy_logps=logps,
            scores=torch.stack([scores_of(batch, place) for place in range(num_responses)], -1),
            ref_logps=None
            if scores.ref_logps is None
            else torch.stack([part.sum() for part in scores.ref_logps]).view_as(logps),
        )
        result = self.objective.loss(terms)
        assert isinstance(result, ListLoss)
        better = terms.scores.unsqueeze(-1) > terms.scores.unsqueeze(-2)
        num_pairs = better.sum((-2, -1)).clamp(min=1)
        metrics = {
            "loss_per_list": result.loss.detach(),
            "rewards/margins": (result.margins * better).sum((-2, -1)) / num_pairs,
            "rewards/accuracies": ((result.margins > 0) & better).sum((-2, -1)) / num_pairs,
        }
        return ItemLosses(total=result.loss.sum(), metrics=metrics)

    def num_units(self, batch: Batch) -> int:
        """Lists."""
        return len(batch.examples)
