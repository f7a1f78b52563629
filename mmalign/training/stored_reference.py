"""Log-probabilities of the reference as data: computed once, read in every epoch and run.

Numbers of a record are computed apart from other records, so they depend on nothing but reference
and record. With batches of one record a run that reads them takes bit for bit the steps of one that
computes them; in larger batches padding changes the order of sums in attention, and the two agree
to rounding (about 1e-6 of a log-probability in float32).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmalign.errors import ConfigError, StoreError
from mmalign.media import cache_folder
from mmalign.objectives import ChosenObjective
from mmalign.records import content_id
from mmalign.training.branch_attention import NAME
from mmalign.training.config import TrainerConfig
from mmalign.training.examples import Example
from mmalign.training.fingerprints import (
    processor_fingerprint,
    tensors_hash,
    weights_fingerprint,
)
from mmalign.training.forward import Row, base_model
from mmalign.training.tensor_files import drop_partials, read_tensors, write_tensors

__all__ = [
    "ReferenceStore",
    "missing_examples",
    "reference_parts",
    "refuse_unfit",
    "row_key",
    "store_folder",
]

_ROWS_PER_FILE = 64


class ReferenceStore:
    """Token log-probabilities of one reference, by row.

    They stand in files of some rows each, which appear whole or not at all; several processes may
    write to one folder. A killed writer loses what it had not yet written, `num_rows` at most.

    Args:
        folder: Of this reference and no other.
        made_from: What decides its numbers, written beside them for people.
        num_rows: Rows of one file.
    """

    def __init__(
        self, folder: Path, made_from: Mapping[str, Any], *, num_rows: int = _ROWS_PER_FILE
    ) -> None:
        self.folder = folder
        self._num_rows = num_rows
        self._values: dict[str, Tensor] = {}
        self._unwritten: dict[str, Tensor] = {}
        self._read: set[Path] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "made_from.json").write_text(json.dumps(made_from, indent=1), "utf-8")
        except OSError as error:
            raise StoreError(
                f"{folder}: cannot be written ({error.strerror}); set MMALIGN_CACHE_DIR to a "
                f"folder that can, or trainer.reference_logps: compute"
            ) from error
        drop_partials(folder)
        self.refresh()

    def refresh(self) -> None:
        """Read what other processes have written since."""
        for path in sorted(set(self.folder.glob("*.safetensors")) - self._read):
            found = read_tensors(path)
            if found is not None:
                self._values |= found
                self._read.add(path)

    def __contains__(self, row: Row) -> bool:
        """Whether the row's numbers are there."""
        return row_key(row) in self._values

    def put(self, row: Row, logps: Tensor) -> None:
        """Keep a row's numbers, [N] of its scored tokens; call `flush` behind the last.

        Raises:
            StoreError: The folder cannot be written.
        """
        key = row_key(row)
        self._values[key] = self._unwritten[key] = logps.detach().cpu()
        if len(self._unwritten) >= self._num_rows:
            self.flush()

    def flush(self) -> None:
        """Write what is not yet written.

        Raises:
            StoreError: The folder cannot be written.
        """
        if self._unwritten:
            name = content_id(sorted(self._unwritten))
            path = self.folder / f"{name}.safetensors"
            write_tensors(path, self._unwritten)
            self._read.add(path)
            self._unwritten = {}

    def logps(self, rows: Sequence[Row]) -> Tensor:
        """[N] nats of the scored tokens of all branches, row by row, without gradient.

        Raises:
            StoreError: A row is not there.
        """
        found = []
        for row in rows:
            values = self._values.get(row_key(row))
            if values is None:
                raise StoreError(
                    f"{self.folder}: found no log-probabilities of a row of "
                    f"{len(row.prompt.input_ids)} prompt tokens, expected those of all records; "
                    f"a clip or the folder changed while training. Start again (what is there is "
                    f"kept), or set trainer.reference_logps: compute"
                )
            found.append(values)
        return torch.cat(found).to(rows[0].prompt.input_ids.device)


def row_key(row: Row) -> str:
    """32 hexadecimal digits of a prompt, its media and its branches."""
    prompt = row.prompt
    named = prompt.key or tensors_hash([("ids", prompt.input_ids), *sorted(prompt.media.items())])
    digest = hashlib.blake2b(named.encode(), digest_size=16)
    for branch in row.branches:
        digest.update(tensors_hash([("ids", branch.input_ids), ("mask", branch.mask)]).encode())
    return digest.hexdigest()


def missing_examples(store: ReferenceStore, examples: Iterable[Example]) -> list[int]:
    """Places of the examples of which a row is not there."""
    return [i for i, e in enumerate(examples) if any(row not in store for row in e.rows)]


def reference_parts(
    policy: nn.Module, processor: Any, weights: str, config: TrainerConfig
) -> dict[str, Any]:
    """What decides the reference's numbers, besides the record.

    Args:
        policy: Before its first step; settings that it shares with the reference are read from it.
        processor: Makes ids and pixels.
        weights: Folder or hub name of the reference.
        config: Names the layout.
    """
    base = base_model(policy)
    attention = base.config._attn_implementation
    parameter = next(base.parameters())
    return {
        "weights": weights_fingerprint(weights),
        "dtype": str(parameter.dtype),
        "bf16": config.bf16,
        "device": parameter.device.type,
        "attention": "sdpa" if attention == NAME else attention,
        "layout": config.layout,
        "processor": processor_fingerprint(processor),
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }


def store_folder(
    parts: Mapping[str, Any], place: Literal["cache", "run"], output_dir: Path
) -> Path:
    """Where the numbers of one reference are kept."""
    root = cache_folder("reference") if place == "cache" else output_dir / "reference"
    return root / content_id(parts)


def refuse_unfit(
    objective: ChosenObjective | None, config: TrainerConfig, output_dir: Path
) -> None:
    """Refuse to store what is not the same number every time.

    Raises:
        ConfigError: The objective reads more of the reference than log-probabilities of records,
            dropout is on, or the reference is what this run writes.
    """
    name = objective.name if objective else "supervised training"
    needs = objective.objective.needs if objective else frozenset()
    why = None
    if compared := sorted(needs & {"token_kl", "token_js"}):
        why = (
            f"{name} compares whole distributions over the vocabulary ({', '.join(compared)}) at "
            f"every step"
        )
    elif "reference_point" in needs:
        why = f"{name} scores prompts with answers of other records, drawn anew with every batch"
    elif "ref_logps" not in needs:
        why = f"{name} has no reference"
    elif not config.disable_dropout:
        why = "dropout is on (trainer.disable_dropout: false)"
    elif Path(config.reference).is_dir() and _lies_in(Path(config.reference), output_dir):
        why = f"the reference {config.reference} lies in the run's own folder and changes with it"
    if why is not None:
        raise ConfigError(
            f"trainer.reference_logps: store cannot serve here: {why}. Set "
            f"trainer.reference_logps: compute"
        )


def _lies_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
