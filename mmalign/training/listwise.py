"""Preference optimisation over ranked lists of responses."""

import torch

from mmalign.errors import ShapeError
from mmalign.objectives import ListTerms
from mmalign.training.examples import Batch
from mmalign.training.preference import scores_of
from mmalign.training.trainer import ItemLosses, ObjectiveTrainer

__all__ = ["ListwiseTrainer"]


class ListwiseTrainer(ObjectiveTrainer):
    """Learns from rankings; all of one batch have the same number of responses."""

    def item_losses(self, batch: Batch) -> ItemLosses:
        """The objective's loss, summed over lists."""
        num_lists, num_responses = len(batch.examples), len(batch.examples[0].scores)
        sizes = {len(example.scores) for example in batch.examples}
        if len(sizes) > 1:
            raise ShapeError(
                f"the rankings of one batch have {sorted(sizes)} responses; give all the same "
                f"number, or set per_device_train_batch_size: 1"
            )
        scores = self.score_branches(batch.rows)
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
        better = terms.scores.unsqueeze(-1) > terms.scores.unsqueeze(-2)
        num_pairs = better.sum((-2, -1)).clamp(min=1)
        metrics = {
            "loss_per_list": result.loss.detach(),
            "rewards/margins": (result.margins * better).sum((-2, -1)) / num_pairs,
            "rewards/accuracies": ((result.margins > 0) & better).sum((-2, -1)) / num_pairs,
        }
        return ItemLosses(total=result.loss.sum(), metrics=metrics)
