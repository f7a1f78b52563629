"""Records that training makes, line by line with the step that they were made for."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmalign.records import Record

__all__ = ["RecordFiles"]


class RecordFiles:
    """Files of one process; a resumed run overwrites what it makes again.

    Args:
        folder: Gets `NAME-PROCESS.jsonl` files of {"step", "epoch", "record"} lines.
        process: Index of this process.
        names: Of the files.
    """

    def __init__(self, folder: Path, process: int, names: Sequence[str]) -> None:
        self.folder = folder
        self._paths = {name: folder / f"{name}-{process}.jsonl" for name in names}
        self._has_begun = False

    def begin_step(self, step: int) -> None:
        """On the first call, forget what an interrupted run wrote for this step and later ones."""
        if self._has_begun:
            return
        self._has_begun = True
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self._paths.values():
            lines = path.read_text(encoding="utf-8").splitlines(True) if path.exists() else []
            earlier = [line for line in lines if _step_of(line) < step]
            path.write_text("".join(earlier), encoding="utf-8")

    def write(self, records: Mapping[str, Sequence[Record]], *, step: int, epoch: float) -> None:
        """Append records to the files of these names."""
        for name, made in records.items():
            rows = [
                {"step": step, "epoch": epoch, "record": record.model_dump(mode="json")}
                for record in made
            ]
            with self._paths[name].open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)


def _step_of(line: str) -> float:
    """A line that a killed process left half written belongs to no step."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf
