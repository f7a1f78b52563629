"""The names that agents, tools and readers import; nothing else of the engine is theirs."""

from mmalign.config import Config
from mmalign.engine.context import Context
from mmalign.errors import (
    CapabilityError,
    ConfigError,
    MediaError,
    MmalignError,
    ModelCallError,
    RecordError,
)
from mmalign.media import (
    AudioClip,
    FrameSampling,
    VideoClip,
    cache_folder,
    file_hash,
    load_audio,
    load_video,
    operation,
    write_video,
)
from mmalign.models.ambiguity_judge import Judgement, answer_blocks, judge_answer
from mmalign.models.asking import Reply, ask_until_valid
from mmalign.models.protocol import (
    ChatModel,
    ComparesClips,
    Completion,
    Sampling,
    TokenLogprobs,
    Usage,
)
from mmalign.records import (
    DroppedSample,
    Lineage,
    MediaOperation,
    MediaPart,
    MediaRef,
    Message,
    PreferencePair,
    Response,
    Sample,
    Span,
    TextPart,
    ToolCall,
    content_id,
    text_of,
    user,
)
from mmalign.records.spans import differing_spans, parse_tagged, write_tagged
from mmalign.selection.ambiguity import choose_ambiguous
from mmalign.selection.clips import ClipChoice, choose_clip
from mmalign.selection.clues import clues_of, gold_answer
from mmalign.selection.sentences import sentences_of

__all__ = [
    "AudioClip",
    "AudioVisualConfig",
    "AudioVisualForConditionalGeneration",
    "AudioVisualProcessor",
    "CapabilityError",
    "ChatModel",
    "ClipChoice",
    "ComparesClips",
    "Completion",
    "Config",
    "ConfigError",
    "Context",
    "DroppedSample",
    "FrameSampling",
    "Judgement",
    "Lineage",
    "MediaError",
    "MediaOperation",
    "MediaPart",
    "MediaRef",
    "Message",
    "MmalignError",
    "ModelCallError",
    "PreferencePair",
    "RecordError",
    "Reply",
    "Response",
    "Sample",
    "Sampling",
    "Span",
    "TextPart",
    "TokenLogprobs",
    "ToolCall",
    "Usage",
    "VideoClip",
    "answer_blocks",
    "ask_until_valid",
    "cache_folder",
    "choose_ambiguous",
    "choose_clip",
    "clues_of",
    "content_id",
    "differing_spans",
    "file_hash",
    "gold_answer",
    "judge_answer",
    "load_audio",
    "load_video",
    "operation",
    "parse_tagged",
    "sentences_of",
    "text_of",
    "user",
    "write_tagged",
    "write_video",
]
