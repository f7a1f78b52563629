"""Read what a run has left in its folder; a stage that did not run is absent, never an error."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from mmalign.errors import StoreError
from mmalign.media import FrameSampling
from mmalign.records import DroppedSample, PreferencePair, Record
from mmalign.report.comparing import comparison_problem

__all__ = ["Arm", "RunData", "read_run", "sampling_of"]

RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True)
class Arm:
    """One evaluation: percentages with their intervals, over all items and per subset."""

    name: str
    metric: str
    """The metric that the run is judged by."""
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    counts: Mapping[str, Any]
    subsets: Mapping[str, Mapping[str, float]]
    subset_intervals: Mapping[str, Mapping[str, tuple[float, float]]]
    versions: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Calls, failures, cost and mean seconds of each tool, where the policy had any."""


@dataclass(frozen=True)
class RunData:
    """Everything that a report shows, as it lies in the run folder."""

    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    config_text: str = ""
    pairs: tuple[PreferencePair, ...] | None = None
    """None where the build stage has not run."""
    dropped: tuple[DroppedSample, ...] = ()
    funnel: Mapping[str, Any] = field(default_factory=dict)
    log: tuple[Mapping[str, Any], ...] | None = None
    """Rows of the trainer's log; None where training has not run."""
    plan: Mapping[str, Any] | None = None
    arms: Mapping[str, Arm] = field(default_factory=dict)
    difference_interval: tuple[float, float] | None = None
    """Of the main metric, `after` minus `before`, from paired draws."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the last evaluation; empty where there was none."""
    problems: tuple[str, ...] = ()
    """What could not be read, one sentence each; the page shows them."""


def read_run(folder: Path) -> RunData:
    """The run's data; unreadable parts are left out and named in `problems`.

    Raises:
        StoreError: The folder does not exist.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such run folder; give the folder that a run has written")
    problems: list[str] = []
    config_text = _text(folder / "config.yaml") or ""
    pairs = _records(folder / "data" / "pairs.jsonl", PreferencePair, problems)
    dropped = _records(folder / "data" / "dropped.jsonl", DroppedSample, problems)
    if pairs is None:
        online = folder / "train" / "online"
        pairs = _online_records(online, "pairs", PreferencePair, problems)
        dropped = _online_records(online, "dropped", DroppedSample, problems)
    log = _rows(folder / "train" / "trainer_log.jsonl", problems)
    plan = _mapping(folder / "train" / "plan.json", problems)
    arms = _arms(folder / "eval", problems)
    return RunData(
        folder=folder,
        config=_mapping_of_yaml(folder / "config.yaml", config_text, problems),
        config_text=config_text,
        pairs=pairs,
        dropped=dropped or (),
        funnel=_mapping(folder / "data" / "funnel.json", problems) or {},
        log=log,
        plan=plan,
        arms=arms,
        difference_interval=_difference_interval(folder / "eval", problems),
        versions=dict(list(arms.values())[-1].versions) if arms else {},
        problems=tuple(problems),
    )


def _online_records(
    folder: Path, name: str, record: type[RecordT], problems: list[str]
) -> tuple[RecordT, ...] | None:
    """What training has built as it went; a sample that came again stands there twice."""
    files = sorted(folder.glob(f"{name}-*.jsonl"))
    rows = [row for file in files for row in _rows(file, problems) or ()]
    try:
        found = tuple(record.model_validate(row["record"]) for row in rows)
    except (KeyError, ValidationError) as error:
        problems.append(f"{folder.name}: holds what is no {record.__name__}: {error}")
        return None
    return found if files else None


def sampling_of(config: Mapping[str, Any]) -> FrameSampling:
    """The policy's frame sampling: the first object of the recipe that fits the class."""
    waiting: list[Any] = [config]
    while waiting:
        value = waiting.pop(0)
        if not isinstance(value, Mapping):
            continue
        fields = {name: value[name] for name in FrameSampling.model_fields if name in value}
        if fields.keys() & {"num_frames", "max_frames", "indices"}:
            with suppress(ValidationError):
                return FrameSampling.model_validate(fields)
        waiting.extend(value.values())
    return FrameSampling()


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _mapping_of_yaml(path: Path, text: str, problems: list[str]) -> Mapping[str, Any]:
    try:
        value = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        problems.append(f"{path.name}: not valid YAML: {error}")
        return {}
    return value if isinstance(value, dict) else {}


def _mapping(path: Path, problems: list[str]) -> Mapping[str, Any] | None:
    text = _text(path)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        problems.append(f"{path.parent.name}/{path.name}: not valid JSON: {error}")
        return None
    if not isinstance(value, dict):
        problems.append(f"{path.parent.name}/{path.name}: holds no object")
        return None
    return value


def _rows(path: Path, problems: list[str]) -> tuple[Mapping[str, Any], ...] | None:
    text = _text(path)
    if text is None:
        return None
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            problems.append(f"{path.parent.name}/{path.name}:{number}: not a JSON object; left out")
    return tuple(row for row in rows if isinstance(row, dict))


def _records(
    path: Path, record_class: type[RecordT], problems: list[str]
) -> tuple[RecordT, ...] | None:
    text = _text(path)
    if text is None:
        return None
    records: list[RecordT] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            records.append(record_class.model_validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            problems.append(
                f"{path.parent.name}/{path.name}:{number}: not a {record_class.__name__}, "
                f"left out: {first['msg']}"
            )
    return tuple(records)


def _arms(folder: Path, problems: list[str]) -> Mapping[str, Arm]:
    """Arms by name: `before` first, `after` last, others between them, checkpoints by number."""
    paths = sorted(folder.glob("*.json"), key=lambda path: _arm_place(path.stem))
    found = {}
    for path in paths:
        value = _mapping(path, problems)
        if value is not None and isinstance(value.get("metrics"), dict):
            found[path.stem] = value
    arms = {}
    for name, value in found.items():
        problem = comparison_problem(value, list(found.values())[-1])
        if problem is None:
            arms[name] = _arm(name, value)
        else:
            problems.append(f"eval/{name}.json: left out: {problem}")
    return arms


def _difference_interval(folder: Path, problems: list[str]) -> tuple[float, float] | None:
    value = _mapping(folder / "difference.json", problems) or {}
    return _pairs_of_numbers({"ends": [value.get("low"), value.get("high")]}).get("ends")


def _arm_place(name: str) -> tuple[int, int, str]:
    _, _, number = name.rpartition("-")
    rank = {"before": 0, "base": 0, "after": 2}
    return rank.get(name, 1), int(number) if number.isdecimal() else 0, name


def _arm(stem: str, value: Mapping[str, Any]) -> Arm:
    metrics = _numbers(value["metrics"])
    intervals = _pairs_of_numbers(value.get("intervals") or {})
    raw_subsets = {
        subset: raw for subset, raw in (value.get("subsets") or {}).items() if isinstance(raw, dict)
    }
    subset_intervals = {}
    for subset, raw in raw_subsets.items():
        inner = _pairs_of_numbers(raw.get("intervals") or {})
        outer = {
            name.removeprefix(f"{subset}/"): interval
            for name, interval in intervals.items()
            if name.startswith(f"{subset}/")
        }
        subset_intervals[subset] = {**outer, **inner}
    return Arm(
        name=str(value.get("name") or stem),
        metric=str(value.get("metric") or next(iter(metrics), "")),
        metrics=metrics,
        intervals=intervals,
        counts=value.get("counts") or {},
        subsets={subset: _numbers(raw) for subset, raw in raw_subsets.items()},
        subset_intervals=subset_intervals,
        versions={name: str(number) for name, number in (value.get("versions") or {}).items()},
        tools={name: _numbers(raw) for name, raw in (value.get("tools") or {}).items()},
    )


def _numbers(value: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(number)
        for name, number in value.items()
        if isinstance(number, int | float)
        and not isinstance(number, bool)
        and math.isfinite(number)
    }


def _pairs_of_numbers(value: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    return {
        name: (float(pair[0]), float(pair[1]))
        for name, pair in value.items()
        if isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(end, int | float) and math.isfinite(end) for end in pair)
    }
