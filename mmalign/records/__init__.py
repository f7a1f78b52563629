"""What flows from readers through agents to trainers: samples, messages, media, pairs, lineage."""

from mmalign.records.base import Record, canonical_json, content_id
from mmalign.records.lineage import DroppedSample, Lineage
from mmalign.records.media import MediaOperation, MediaRef
from mmalign.records.messages import MediaPart, Message, Part, TextPart, ToolCall, text_of, user
from mmalign.records.pairs import PreferencePair, Response, Span
from mmalign.records.samples import Sample

__all__ = [
    "DroppedSample",
    "Lineage",
    "MediaOperation",
    "MediaPart",
    "MediaRef",
    "Message",
    "Part",
    "PreferencePair",
    "Record",
    "Response",
    "Sample",
    "Span",
    "TextPart",
    "ToolCall",
    "canonical_json",
    "content_id",
    "text_of",
    "user",
]
