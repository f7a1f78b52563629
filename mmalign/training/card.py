"""The model card that is written beside the weights."""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import transformers
import yaml

from mmalign.config import Config
from mmalign.records import LabelledResponse, PreferencePair, RankedResponses, Sample
from mmalign.training.config import LoraSettings, TrainerConfig

__all__ = ["write_model_card"]

_PACKAGES = ("mmalign", "torch", "transformers", "peft", "accelerate")


def write_model_card(
    output_dir: Path,
    *,
    base_model: str,
    model_class: str,
    method: str,
    settings: Config | None,
    trainer: TrainerConfig,
    lora: LoraSettings | None,
    records: Sequence[PreferencePair | LabelledResponse | RankedResponses | Sample],
    results: Mapping[str, Any],
) -> None:
    """Write README.md with front matter, how to load, training table, origin of the data.

    Args:
        output_dir: Gets the file.
        base_model: Folder or hub name that training began with.
        model_class: Class of transformers, or of ours, that loads it.
        method: Name of the objective.
        settings: Of the objective.
        trainer: Optimiser and batches.
        lora: Adapter, if there is one.
        records: What was learnt from.
        results: Metrics at the end.
    """
    front = {
        "base_model": base_model,
        "library_name": "peft" if lora else "transformers",
        "tags": ["mmalign", method, *(["lora"] if lora else [])],
    }
    blocks = [
        "---\n" + yaml.safe_dump(front, sort_keys=False).strip() + "\n---",
        f"# {_run_name(output_dir.resolve())}: {method} on {_run_name(Path(base_model))}",
        _quick_start(base_model, model_class, with_adapter=lora is not None),
        "## Training\n\n" + _table(_training_rows(method, settings, trainer, lora, results)),
        "## Origin of the data\n\n" + _table(_origins(records)),
        "## Versions\n\n" + _table([(name, version(name)) for name in _PACKAGES]),
    ]
    (output_dir / "README.md").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def _run_name(folder: Path) -> str:
    """A run keeps its model in `train`; other folders are named for what they hold."""
    return folder.parent.name if folder.name == "train" else folder.name


def _quick_start(base_model: str, model_class: str, *, with_adapter: bool) -> str:
    home = "transformers" if hasattr(transformers, model_class) else "mmalign.models.audio_visual"
    lines = ["## Load it", "", "```python", f"from {home} import {model_class}"]
    if with_adapter:
        lines += [
            "from peft import PeftModel",
            "",
            f'base = {model_class}.from_pretrained("{base_model}")',
            'model = PeftModel.from_pretrained(base, "path/to/this/folder")',
        ]
    else:
        lines += ["", f'model = {model_class}.from_pretrained("path/to/this/folder")']
    return "\n".join([*lines, "```"])


def _training_rows(
    method: str,
    settings: Config | None,
    trainer: TrainerConfig,
    lora: LoraSettings | None,
    results: Mapping[str, Any],
) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("objective", method)]
    for component in (settings, lora, trainer):
        rows += list(component.model_dump(mode="json").items()) if component else []
    return [*rows, *((f"final {name}", value) for name, value in results.items())]


def _origins(
    records: Sequence[PreferencePair | LabelledResponse | RankedResponses | Sample],
) -> list[tuple[str, object]]:
    counts: Counter[str] = Counter()
    for record in records:
        if not isinstance(record, Sample):
            lineage = record.lineage
            counts[f"{lineage.graph} on {lineage.source}, answers by {lineage.policy}"] += 1
        else:
            counts[str(record.metadata.get("dataset", "unnamed data set"))] += 1
    return [(origin, f"{count} records") for origin, count in counts.most_common()]


def _table(rows: Sequence[tuple[str, object]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
