"""Preference pairs to and from the files of TRL, ms-swift, LLaMA-Factory and RRPO."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmalign.errors import ConfigError, LossyExportError, RecordError, StoreError
from mmalign.records.atomic import new_file
from mmalign.records.interop.formats import Format, Loss
from mmalign.records.interop.llama_factory import LLAMA_FACTORY
from mmalign.records.interop.rrpo import RRPO
from mmalign.records.interop.swift import SWIFT
from mmalign.records.interop.trl import TRL, TRL_PLAIN
from mmalign.records.jsonl import IdCheck, explain
from mmalign.records.pairs import PreferencePair

__all__ = ["FORMATS", "Format", "Loss", "export_pairs", "import_pairs", "losses_of"]

FORMATS: dict[str, Format] = {
    "trl": TRL,
    "trl_plain": TRL_PLAIN,
    "swift": SWIFT,
    "llama_factory": LLAMA_FACTORY,
    "rrpo": RRPO,
}

_SHOWN = 10


def losses_of(pairs: Iterable[PreferencePair], format_name: str) -> list[Loss]:
    """What an export would lose, pair by pair, without writing anything."""
    losses = _format(format_name).losses
    return [
        Loss(row, pair.id, loss.what, loss.leaves_out)
        for row, pair in enumerate(pairs, start=1)
        for loss in losses(pair)
    ]


def export_pairs(
    path: Path,
    pairs: Iterable[PreferencePair],
    format_name: str,
    *,
    allow_lossy: bool = False,
) -> list[Loss]:
    """Write pairs for another library, whole or not at all.

    Args:
        path: The new file.
        pairs: The pairs; held in memory, without their media.
        format_name: One of `FORMATS`.
        allow_lossy: Write although something is lost. What would make a row say something else
            (two sides that differ in their media only) leaves the row out.

    Returns:
        What was lost; nothing unless `allow_lossy`.

    Raises:
        LossyExportError: The format cannot hold what the named rows carry.
        RecordError: A text holds a placeholder that the target would take for media.
        StoreError: The file cannot be written.
    """
    target = _format(format_name)
    kept = list(pairs)
    losses = losses_of(kept, format_name)
    if losses and not allow_lossy:
        shown = "\n".join(f"  {loss}" for loss in losses[:_SHOWN])
        more = f"\n  ... and {len(losses) - _SHOWN} more" if len(losses) > _SHOWN else ""
        rows = len({loss.row for loss in losses})
        raise LossyExportError(
            f"{path}: the format {format_name} cannot hold all that {rows} of {len(kept)} pairs "
            f"carry:\n{shown}{more}\nExport to another format, or allow the loss "
            f"(allow_lossy=True, --allow-lossy)"
        )
    left_out = {loss.row for loss in losses if loss.leaves_out}
    kept = [pair for row, pair in enumerate(kept, start=1) if row not in left_out]
    rows_written = list(target.rows(kept))
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        if target.lines:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows_written)
        else:
            json.dump(rows_written, file, ensure_ascii=False, indent=1)
            file.write("\n")
    if target.finish is not None:
        target.finish(path, rows_written)
    return losses


def import_pairs(path: Path, format_name: str) -> Iterator[PreferencePair]:
    """Read another library's preference file, JSON lines or one JSON list.

    Tool arguments become JSON text, other columns metadata; how the row was written, where it
    can be written in several ways, is kept in `metadata["imported"]`.

    Raises:
        RecordError: A row does not fit; named as `file:line: problem` or `file: row N: problem`.
        StoreError: The file cannot be read.
    """
    source = _format(format_name)
    names = source.columns(path) if source.columns is not None else {}
    ids: IdCheck | None = None
    for number, (where, row) in enumerate(_read_rows(path), start=1):
        if not isinstance(row, Mapping):
            raise RecordError(f"{where}: holds a {type(row).__name__}, expected an object")
        renamed = {names.get(name, name): value for name, value in row.items()}
        try:
            pair = source.pair(renamed, path.name)
        except RecordError as error:
            raise RecordError(f"{where}: {error}") from error
        except ValidationError as error:
            raise RecordError(explain(where, "pair", row.get("sample_id"), error)) from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RecordError(
                f"{where}: is no row of the format {format_name}: {type(error).__name__}: {error}"
            ) from error
        ids = ids or IdCheck(f"{path}: row ", PreferencePair)
        ids.check(number, pair)
        yield pair


def _format(name: str) -> Format:
    try:
        return FORMATS[name]
    except KeyError:
        raise ConfigError(
            f"there is no format {name!r}; known formats: {', '.join(FORMATS)}"
        ) from None


def _read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            is_list = file.read(1).lstrip() == "[" if path.suffix != ".jsonl" else False
            file.seek(0)
            if is_list:
                for number, row in enumerate(json.load(file), start=1):
                    yield f"{path}: row {number}", row
                return
            for number, line in enumerate(file, start=1):
                if not line.isspace():
                    try:
                        yield f"{path}:{number}", json.loads(line)
                    except json.JSONDecodeError as error:
                        raise RecordError(
                            f"{path}:{number}: not valid JSON: {error.msg} at column "
                            f"{error.colno}: {line[:60]!r}"
                        ) from error
    except json.JSONDecodeError as error:
        raise RecordError(
            f"{path}:{error.lineno}: not valid JSON: {error.msg} at column {error.colno}"
        ) from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: is not UTF-8 text: {error}") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
