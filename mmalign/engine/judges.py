"""Notices that a run's judge cannot be relied on."""

from dataclasses import dataclass

from mmalign.engine.store import Outcome
from mmalign.errors import FailedRatioError

__all__ = ["JudgeCount"]

_INVALID = "judge_invalid"
"""The reason of samples whose judge gave no reply that could be read."""


@dataclass
class JudgeCount:
    """Samples that a judge was asked about, and those that its replies cost."""

    num_judged: int = 0
    num_invalid: int = 0

    def add(
        self, outcome: Outcome, *, max_ratio: float, min_samples: int
    ) -> FailedRatioError | None:
        """Count a sample; the error that ends the run where it is one too many.

        Args:
            outcome: Of the sample; one without a judge in its lineage does not count.
            max_ratio: Share of the judged samples that may be lost.
            min_samples: So many must be judged before the share counts.
        """
        lost = next((record for record in outcome.dropped if record.reason == _INVALID), None)
        lineages = [pair.lineage for pair in outcome.pairs]
        lineages += [record.lineage for record in outcome.dropped]
        self.num_judged += lost is not None or any(lineage.judge for lineage in lineages)
        self.num_invalid += lost is not None
        is_over = self.num_invalid > max_ratio * self.num_judged
        if lost is None or self.num_judged < min_samples or not is_over:
            return None
        return FailedRatioError(
            f"judge unreliable: its replies about {self.num_invalid} of {self.num_judged} samples "
            f"could not be read, more than engine.max_judge_invalid_ratio {max_ratio:g} allows; "
            f"the last one, {lost.sample_id!r}: {lost.message}. Give models.judge a better model "
            f"and the run another output_dir"
        )
