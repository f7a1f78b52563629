"""The names that agents, tools and readers import; nothing else of the engine is theirs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmalign.config import Config, import_plugin
from mmalign.engine.context import Context
from mmalign.engine.rollouts import (
    RolloutConfig,
    RolloutTool,
    ToolConfig,
    invoke_tool,
    load_tools,
    prompt_messages,
    roll_out,
    tool_schemas,
)
from mmalign.errors import (
    CapabilityError,
    ConfigError,
    MediaError,
    MmalignError,
    ModelCallError,
    RecordError,
    ToolError,
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
    SamplesTokens,
    Sampling,
    TokenLogprobs,
    Usage,
)
from mmalign.records import (
    EXECUTION_MATRIX,
    DroppedSample,
    ExecutionMatrix,
    LabelledResponse,
    Lineage,
    MediaOperation,
    MediaPart,
    MediaRef,
    Message,
    PreferencePair,
    Response,
    Rollout,
    Sample,
    Span,
    TextPart,
    ToolCall,
    content_id,
    text_of,
    user,
)
from mmalign.records.spans import differing_spans, parse_tagged, write_tagged
from mmalign.rewards.boxes import LabelledBox
from mmalign.rewards.contract import Episode, RewardFunction, reward
from mmalign.rewards.detection import (
    CoordSpace,
    coord_sizes,
    detection_metadata,
    detection_row,
    written_boxes,
)
from mmalign.rewards.question_answering import exact_match, gold_answers_of
from mmalign.rewards.reward import NotApplicable, Reward
from mmalign.rewards.vision_r1 import ImageSizes
from mmalign.sandbox import Limits, RunResult, Sandbox, SandboxConfig
from mmalign.sandbox.written_tests import test_problem
from mmalign.selection.ambiguity import choose_ambiguous
from mmalign.selection.clip_choice import ClipChoice, choose_clip
from mmalign.selection.clues import clues_of, gold_answer
from mmalign.selection.minimax import Cell, MinimaxChoice, minimax_pair, random_pair
from mmalign.selection.sentences import sentences_of
from mmalign.selection.tool_pairs import Attempt, ToolPair, tool_pairs

if TYPE_CHECKING:
    from mmalign.models.audio_visual.assemble import assemble as assemble_audio_visual

__all__ = [
    "EXECUTION_MATRIX",
    "Attempt",
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
    "CoordSpace",
    "DroppedSample",
    "Episode",
    "ExecutionMatrix",
    "FrameSampling",
    "ImageSizes",
    "Judgement",
    "LabelledBox",
    "LabelledResponse",
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
    "NotApplicable",
    "PreferencePair",
    "RecordError",
    "Reply",
    "Response",
    "Reward",
    "RewardFunction",
    "Rollout",
    "RolloutConfig",
    "RolloutTool",
    "RunResult",
    "Sample",
    "SamplesTokens",
    "Sampling",
    "Sandbox",
    "SandboxConfig",
    "Span",
    "TextPart",
    "TokenLogprobs",
    "ToolCall",
    "ToolConfig",
    "ToolError",
    "ToolPair",
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
    "coord_sizes",
    "detection_metadata",
    "detection_row",
    "differing_spans",
    "exact_match",
    "file_hash",
    "gold_answer",
    "gold_answers_of",
    "import_plugin",
    "invoke_tool",
    "judge_answer",
    "load_audio",
    "load_tools",
    "load_video",
    "minimax_pair",
    "operation",
    "parse_tagged",
    "probe",
    "probe_audio",
    "prompt_messages",
    "random_pair",
    "reward",
    "roll_out",
    "sentences_of",
    "test_problem",
    "text_of",
    "tool_pairs",
    "tool_schemas",
    "user",
    "write_tagged",
    "write_video",
    "written_boxes",
]


def __getattr__(name: str) -> Any:
    """What imports torch and transformers, once it is asked for."""
    if name == "assemble_audio_visual":
        return import_module("mmalign.models.audio_visual.assemble").assemble
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
