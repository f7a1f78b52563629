"""Supervised fine-tuning: the mean negative log-likelihood of gold answers per token."""

import torch

from mmalign.training.examples import Batch
from mmalign.training.forward import base_model, completion_hidden, completion_ids
from mmalign.training.logprobs import score_tokens
from mmalign.training.trainer import AlignmentTrainer, ItemLosses

__all__ = ["SupervisedTrainer"]


class SupervisedTrainer(AlignmentTrainer):
    """Learns every answer of the examples; prompts may carry several."""

    def item_losses(self, batch: Batch) -> ItemLosses:
        """Negative log-likelihood summed over the answers' tokens."""
        rows = batch.rows
        hidden = completion_hidden(
            self.policy,
            self.family,
            rows,
            layout=self.config.layout,
            features=self.vision.of(rows) if self.vision else None,
        )
        scores = score_tokens(
            hidden,
            self.family.head(base_model(self.policy)),
            completion_ids(rows),
            chunk_size=self.config.logps_chunk_size,
        )
        sizes = [sum(int(b.mask.sum()) for r in e.rows for b in r.branches) for e in batch.examples]
        nll = torch.stack([part.mean() for part in torch.split(-scores.logps.detach(), sizes)])
        return ItemLosses(total=-scores.logps.sum(), metrics={"nll": nll})

    def num_units(self, batch: Batch) -> int:
        """Tokens."""
        return batch.num_scored_tokens
