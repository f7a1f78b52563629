"""Unpaired preference optimisation: responses that are labelled one by one."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives import UnpairedTerms
from mmalign.objectives.unpaired import kto_reference_point, mismatched_rows
from mmalign.training.examples import Batch
from mmalign.training.forward import Row
from mmalign.training.out_of_memory import explain_memory
from mmalign.training.trainer import ItemLosses, ObjectiveTrainer

__all__ = ["UnpairedTrainer"]


class UnpairedTrainer(ObjectiveTrainer):
    """Learns from labelled responses, around a reference point of the whole step.

    The reference point is taken before the step over all its micro-batches and processes, so
    that it does not depend on how the batch is cut: every prompt is scored with the response of
    the row before it.
    """

    _reference_point: Tensor | None = None

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """Also take the reference point of the step."""
        batches, num_units = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches and "reference_point" in self.objective.objective.needs:
            self._reference_point = self._measure_reference_point(
                [batch.to(device) for batch in batches]
            )
        return batches, num_units

    def item_losses(self, batch: Batch) -> ItemLosses:
        """The objective's loss, summed over responses."""
        scores = self.score_branches(batch.rows)
        labels = torch.tensor([example.desirable for example in batch.examples])
        policy_logps = torch.stack([part.sum() for part in scores.logps])
        terms = UnpairedTerms(
            policy_logps=policy_logps,
            labels=labels.to(policy_logps.device),
            ref_logps=None
            if scores.ref_logps is None
            else torch.stack([part.sum() for part in scores.ref_logps]),
            reference_point=self._reference_point,
        )
        if not terms.policy_logps.isfinite().all():
            raise ShapeError(
                f"log-probabilities of {[e.id for e in batch.examples]} are not finite; the model "
                f"overflows or the input is broken"
            )
        result = self.objective.loss(terms)
        metrics = {
            "loss_per_response": result.loss.detach(),
            "rewards": result.rewards,
            "logps": policy_logps.detach(),
        }
        # NaN marks rows that a mean leaves out
        for name, side in (("chosen", terms.labels), ("rejected", ~terms.labels)):
            metrics[f"rewards/{name}"] = result.rewards.where(side, torch.nan)
        return ItemLosses(total=result.loss.sum(), metrics=metrics)

    @torch.no_grad()
    def _measure_reference_point(self, batches: list[Batch]) -> Tensor:
        examples = [example for batch in batches for example in batch.examples]
        rows = [
            Row(examples[row].rows[0].prompt, examples[other].rows[0].branches)
            for row, other in enumerate(mismatched_rows(len(examples)))
        ]
        size = self.config.per_device_train_batch_size
        log_ratios = []
        for start in range(0, len(rows), size):
            end = start + size
            with explain_memory(examples[start:end], self.config), self.accelerator.autocast():
                scores = self.score_branches(rows[start:end])
            assert scores.ref_logps is not None
            log_ratios += [
                (policy - ref).sum()
                for policy, ref in zip(scores.logps, scores.ref_logps, strict=True)
            ]
        everywhere: Tensor = self.accelerator.gather(torch.stack(log_ratios))
        return kto_reference_point(everywhere, torch.zeros_like(everywhere))
