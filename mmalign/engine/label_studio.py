"""A run's pairs as tasks of Label Studio, with what was decided about them, and back.

Left out: drawing on the media. A task carries the pair's media as the records name them; Label
Studio shows those that its own server can reach.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mmalign.engine.edits import edited_pair
from mmalign.engine.reviews import Review, current_reviews, decide
from mmalign.engine.store import RunStore
from mmalign.errors import RecordError, StoreError
from mmalign.records import PreferencePair, Response
from mmalign.records.atomic import new_file, write_text

__all__ = ["LABELING_CONFIG", "ImportedDecisions", "export_tasks", "import_decisions"]

_DECISION, _CHOSEN, _REJECTED = "decision", "chosen_text", "rejected_text"
_ACTIONS: Mapping[str, Literal["accept", "reject"]] = {"accepted": "accept", "rejected": "reject"}

LABELING_CONFIG = f"""\
<View>
  <Header value="$prompt"/>
  <Text name="chosen" value="$chosen"/>
  <Text name="rejected" value="$rejected"/>
  <Choices name="{_DECISION}" toName="chosen" choice="single" showInline="true">
    <Choice value="accepted" hotkey="a"/>
    <Choice value="rejected" hotkey="r"/>
  </Choices>
  <TextArea name="{_CHOSEN}" toName="chosen" value="$chosen" editable="true"/>
  <TextArea name="{_REJECTED}" toName="rejected" value="$rejected" editable="true"/>
</View>
"""
"""The labelling interface that reads and writes these tasks; add <Video value="$video"/> where
Label Studio can reach the clips."""


class ImportedDecisions(NamedTuple):
    """What an import found."""

    num_tasks: int
    num_decided: int
    """Tasks whose annotation decides something that was not decided before."""


def export_tasks(store: RunStore, path: Path) -> int:
    """Write one task per pair as a JSON list, and the labelling interface beside it as .xml.

    Pairs stand as they were built; decisions and edits are annotations.

    Returns:
        The number of tasks.

    Raises:
        StoreError: The file cannot be written.
    """
    reviews = current_reviews(store)
    tasks = [_task(pair, reviews.get(pair.id)) for pair in store.pairs()]
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(tasks, file, ensure_ascii=False, indent=1)
        file.write("\n")
    write_text(path.with_suffix(".xml"), LABELING_CONFIG)
    return len(tasks)


def import_decisions(store: RunStore, path: Path, *, by: str) -> ImportedDecisions:
    """Put the annotations of a Label Studio export into the store, all of them or none.

    The last annotation of a task that was not cancelled counts; texts that equal those of the
    pair edit nothing. `accepted` beside a changed text is an edit.

    Args:
        store: The run that the tasks were exported from.
        path: Label Studio's JSON export, or a file of `export_tasks`.
        by: Who decided, where an annotation does not say.

    Raises:
        RecordError: A task names no pair of this run, or its annotation says what is no decision.
        StoreError: The file cannot be read or the store not be written.
    """
    pairs = {pair.id: pair for pair in store.pairs()}
    tasks = _tasks(path)
    found = [_verdict(f"{path}: task {n}", task, pairs, by) for n, task in enumerate(tasks, 1)]
    for verdict in found:
        if verdict is not None:
            edited_pair(verdict.pair, verdict.chosen, verdict.rejected)
    last = max((review.id for review in current_reviews(store).values()), default=0)
    for verdict in found:
        if verdict is None:
            continue
        if verdict.chosen is not None or verdict.rejected is not None:
            decide(
                store,
                verdict.pair,
                "edit",
                by=verdict.by,
                chosen=verdict.chosen,
                rejected=verdict.rejected,
            )
            if verdict.action == "accept":
                continue
        if verdict.action is not None:
            decide(store, verdict.pair, verdict.action, by=verdict.by)
    return ImportedDecisions(len(tasks), len(current_reviews(store, after=last)))


class _Verdict(NamedTuple):
    pair: PreferencePair
    action: Literal["accept", "reject"] | None
    chosen: str | None
    rejected: str | None
    by: str


def _task(pair: PreferencePair, review: Review | None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "pair_id": pair.id,
        "sample_id": pair.sample_id,
        "prompt": "\n".join(turn.text.strip() for turn in pair.prompt),
        "chosen": pair.chosen.text,
        "rejected": pair.rejected.text,
        "lineage": pair.lineage.model_dump(mode="json", exclude_defaults=True),
    }
    for ref in pair.media:
        data.setdefault(ref.kind, ref.uri)
    if review is None or review.decision is None:
        return {"data": data}
    result = []
    if review.decision != "edited":
        result.append(_result(_DECISION, "chosen", "choices", {"choices": [review.decision]}))
    for name, side, text in (
        (_CHOSEN, "chosen", review.chosen),
        (_REJECTED, "rejected", review.rejected),
    ):
        if text is not None:
            result.append(_result(name, side, "textarea", {"text": [text]}))
    annotation = {"result": result, "created_at": review.at, "created_username": review.by}
    return {"data": data, "annotations": [annotation]}


def _result(name: str, side: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": side, "type": kind, "value": dict(value)}


def _tasks(path: Path) -> list[Any]:
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecordError(f"{path}: is no JSON text: {error}") from error
    if not isinstance(tasks, list):
        raise RecordError(
            f"{path}: holds a {type(tasks).__name__}, expected the list of tasks that Label Studio "
            f"exports as JSON (not JSON-MIN, CSV)"
        )
    return tasks


def _verdict(
    where: str, task: Any, pairs: Mapping[str, PreferencePair], by: str
) -> _Verdict | None:
    try:
        pair = pairs.get(task["data"]["pair_id"])
        annotations = [one for one in task.get("annotations", ()) if not one.get("was_cancelled")]
        if pair is None:
            raise RecordError(
                f"{where}: there is no pair {task['data']['pair_id']!r} in this run; import tasks "
                f"into the run that they were exported from"
            )
        if not annotations:
            return None
        last = max(annotations, key=lambda one: one.get("updated_at") or one.get("created_at", ""))
        values = {one["from_name"]: one["value"] for one in last["result"]}
        decision = values[_DECISION]["choices"][0] if _DECISION in values else None
        chosen = _changed(values, _CHOSEN, pair.chosen)
        rejected = _changed(values, _REJECTED, pair.rejected)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise RecordError(
            f"{where}: is no task of this project: {type(error).__name__}: {error}; label with the "
            f".xml interface that was written beside the tasks"
        ) from error
    if decision is not None and decision not in _ACTIONS:
        raise RecordError(f"{where}: the choice is {decision!r}; known: {', '.join(_ACTIONS)}")
    who = last.get("created_username") or last.get("completed_by") or by
    return _Verdict(
        pair,
        _ACTIONS[decision] if decision is not None else None,
        chosen,
        rejected,
        str(who.get("email", by) if isinstance(who, dict) else who),
    )


def _changed(values: Mapping[str, Any], name: str, side: Response) -> str | None:
    """The annotated text of a side where it is another one than the pair's."""
    text = "\n".join(values[name]["text"]) if name in values else side.text
    return None if text == side.text else text
