"""What flows from readers through agents to trainers: samples, messages, media, pairs, lineage."""

from mmalign.records.base import JsonDict, Record, canonical_json, content_id
from mmalign.records.execution import EXECUTION_MATRIX, ExecutionMatrix
from mmalign.records.jsonl import read_jsonl, write_jsonl
from mmalign.records.lineage import DroppedSample, Lineage
from mmalign.records.media import MediaOperation, MediaRef
from mmalign.records.messages import MediaPart, Message, Part, TextPart, ToolCall, text_of, user
from mmalign.records.pairs import PreferencePair, Response, Span
from mmalign.records.responses import LabelledResponse, RankedResponses, labelled_of, ranked_of
from mmalign.records.rollouts import Rollout, Segment, Stop, ToolOutcome, ToolRun
from mmalign.records.samples import Sample
from mmalign.records.spans import (
    differing_phrases,
    differing_spans,
    parse_tagged,
    phrase_ids_of,
    write_tagged,
)

__all__ = [
    "EXECUTION_MATRIX",
    "DroppedSample",
    "ExecutionMatrix",
    "JsonDict",
    "LabelledResponse",
    "Lineage",
    "MediaOperation",
    "MediaPart",
    "MediaRef",
    "Message",
    "Part",
    "PreferencePair",
    "RankedResponses",
    "Record",
    "Response",
    "Rollout",
    "Sample",
    "Segment",
    "Span",
    "Stop",
    "TextPart",
    "ToolCall",
    "ToolOutcome",
    "ToolRun",
    "canonical_json",
    "content_id",
    "differing_phrases",
    "differing_spans",
    "labelled_of",
    "parse_tagged",
    "phrase_ids_of",
    "ranked_of",
    "read_jsonl",
    "text_of",
    "user",
    "write_jsonl",
    "write_tagged",
]
