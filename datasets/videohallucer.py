"""VideoHallucer's five published parts: pairs of a basic and a hallucinated yes/no question.

Source: VideoHallucer (Wang et al., 2024), the released folders.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmalign.api import MediaRef, RecordError, Sample, user
from mmalign.datasets.benchmark_files import load_list, require_text

__all__ = ["SUBSETS", "read"]

SUBSETS = (
    "object_relation",
    "temporal",
    "semantic_detail",
    "external_factual",
    "external_nonfactual",
)
"""The parts whose unweighted mean is the headline."""

_GOLD = {"basic": "yes", "hallucination": "no"}
_PROMPT = "{question}\nAnswer the question using 'yes' or 'no'."
_TEMPLATE = "videohallucer/official-1"


def read(
    root: str | Path, *, subsets: Sequence[str] = SUBSETS, num_groups: int | None = None
) -> Iterator[Sample]:
    """Both questions of every pair, basic before hallucinated.

    Args:
        root: Folder that holds one folder per part, each with its JSON file and `videos/`.
        subsets: Parts to read.
        num_groups: Only so many pairs of each part.

    Raises:
        ConfigError: A part's file is not there.
        RecordError: A pair does not have the published form; named by file and index.
    """
    for subset in subsets:
        folder = Path(root) / subset
        path = folder / f"{subset}.json"
        for index, pair in enumerate(load_list(path)[:num_groups]):
            where = f"{path}: index {index}"
            if not isinstance(pair, dict) or not _GOLD.keys() <= pair.keys():
                raise RecordError(f"{where}: expected an object with basic and hallucination")
            for side, gold in _GOLD.items():
                item = require_text(f"{where}, {side}", pair[side], ("video", "question", "answer"))
                if item["answer"].strip().lower() != gold:
                    raise RecordError(
                        f"{where}, {side}: the answer is {item['answer']!r}, expected {gold!r}"
                    )
                role = "basic" if side == "basic" else "hallucinated"
                clip = MediaRef(kind="video", uri=str(folder / "videos" / item["video"]))
                yield Sample(
                    id=f"{subset}/{index:04d}/{role}",
                    group_id=f"{subset}/{index:04d}",
                    messages=(user(_PROMPT.format(question=item["question"]), clip),),
                    answer=gold,
                    metadata={
                        "dataset": "videohallucer",
                        "subset": subset,
                        "question_type": subset,
                        "role": role,
                        "type": pair.get("type"),
                        "prompt_template": _TEMPLATE,
                    },
                )
