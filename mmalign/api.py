"""The names that agents, tools and readers import; nothing else of the engine is theirs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    probe,
    probe_audio,
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
    EXECUTION_MATRIX,
    DroppedSample,
    ExecutionMatrix,
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
from mmalign.sandbox import Limits, RunResult, Sandbox, SandboxConfig
from mmalign.sandbox.written_tests import test_problem
from mmalign.selection.ambiguity import choose_ambiguous
from mmalign.selection.clip_choice import ClipChoice, choose_clip
from mmalign.selection.clues import clues_of, gold_answer
from mmalign.selection.minimax import Cell, MinimaxChoice, minimax_pair, random_pair
from mmalign.selection.sentences import sentences_of

if TYPE_CHECKING:
    from mmalign.models.audio_visual.assemble import assemble as assemble_audio_visual

__all__ = [
    "EXECUTION_MATRIX",
    "AudioClip",
    "CapabilityError",
    "Cell",
    "ChatModel",
    "ClipChoice",
    "ComparesClips",
    "Completion",
    "Config",
    "ConfigError",
    "Context",
    "DroppedSample",
    "ExecutionMatrix",
    "FrameSampling",
    "Judgement",
    "Limits",
    "Lineage",
    "MediaError",
    "MediaOperation",
    "MediaPart",
    "MediaRef",
    "Message",
    "MinimaxChoice",
    "MmalignError",
    "ModelCallError",
    "PreferencePair",
    "RecordError",
    "Reply",
    "Response",
    "RunResult",
    "Sample",
    "Sampling",
    "Sandbox",
    "SandboxConfig",
    "Span",
    "TextPart",
    "TokenLogprobs",
    "ToolCall",
    "Usage",
    "VideoClip",
    "answer_blocks",
    "ask_until_valid",
    "assemble_audio_visual",
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
    "minimax_pair",
    "operation",
    "parse_tagged",
    "probe",
    "probe_audio",
    "random_pair",
    "sentences_of",
    "test_problem",
    "text_of",
    "user",
    "write_tagged",
    "write_video",
]


def __getattr__(name: str) -> Any:
    """What imports torch and transformers, once it is asked for."""
    if name == "assemble_audio_visual":
        return import_module("mmalign.models.audio_visual.assemble").assemble
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
