"""The one tree of errors: each says where, what was found, what was expected, what to do."""

__all__ = [
    "AgentError",
    "BudgetReachedError",
    "CapabilityError",
    "CheckpointError",
    "ConfigError",
    "DecodeTimeoutError",
    "FailedRatioError",
    "LossyExportError",
    "MediaCorruptError",
    "MediaEmptyError",
    "MediaError",
    "MediaMissingError",
    "MediaTruncatedError",
    "MissingPredictionsError",
    "MissingStreamError",
    "MmalignError",
    "ModelCallError",
    "ModelResponseError",
    "ModelTimeoutError",
    "ModelUnavailableError",
    "PluginError",
    "RateLimitError",
    "RecordError",
    "RewardError",
    "RunInterruptedError",
    "SandboxError",
    "ShapeError",
    "StoreError",
    "ToolError",
    "TrainingMemoryError",
]


class MmalignError(Exception):
    """Every error that mmalign raises on purpose."""


class ConfigError(MmalignError, ValueError):
    """A configuration file, override or argument does not fit."""


class PluginError(MmalignError, ImportError):
    """A config names an agent, reader or tool that cannot be imported or has the wrong form."""


class RecordError(MmalignError, ValueError):
    """A record (sample, pair, span ...) contradicts itself or its file."""


class RewardError(MmalignError, ValueError):
    """A reward function broke its contract: range, number of values, an exception of its own."""


class LossyExportError(MmalignError, ValueError):
    """A target format cannot hold what the named records carry."""


class ShapeError(MmalignError, ValueError):
    """Tensors do not have the shapes, types or values that a function needs."""


class StoreError(MmalignError, OSError):
    """A run folder cannot be read or written (full disk, read-only, foreign content)."""


class CheckpointError(MmalignError, RuntimeError):
    """A training checkpoint is incomplete or belongs to another run."""


class TrainingMemoryError(MmalignError, MemoryError):
    """A training step does not fit into memory."""


class MediaError(MmalignError, OSError):
    """A media file cannot give what was asked; `reason` is the code that drop records carry."""

    reason = "media_error"


class MediaMissingError(MediaError):
    """The file is not there or cannot be opened."""

    reason = "media_missing"


class MediaEmptyError(MediaError):
    """The file has no bytes, or its stream no frames."""

    reason = "media_empty"


class MediaCorruptError(MediaError):
    """The container or a packet cannot be decoded."""

    reason = "media_corrupt"


class MediaTruncatedError(MediaError):
    """The file ends before the frames that its header promises."""

    reason = "media_truncated"


class MissingStreamError(MediaError):
    """The file has no stream of the kind that was asked for (a video without picture or sound)."""

    reason = "media_missing_stream"


class DecodeTimeoutError(MediaError, TimeoutError):
    """Decoding did not end within its time limit; the decoder was killed."""

    reason = "media_decode_timeout"


class CapabilityError(MmalignError, ValueError):
    """A model was asked for something that it declares it cannot do."""


class ModelCallError(MmalignError, RuntimeError):
    """A call of a model failed; `reason` is the code that drop records carry."""

    reason = "model_error"


class RateLimitError(ModelCallError):
    """The server answered 429 until the retries were used up."""

    reason = "model_rate_limited"


class ModelTimeoutError(ModelCallError, TimeoutError):
    """The model did not answer within its time limit."""

    reason = "model_timeout"


class ModelUnavailableError(ModelCallError):
    """The server is unreachable, answers 5xx, or its circuit breaker is open."""

    reason = "model_unavailable"


class ModelResponseError(ModelCallError):
    """The server's answer is not what its protocol promises (cut stream, invalid JSON)."""

    reason = "model_bad_response"


class BudgetReachedError(MmalignError, RuntimeError):
    """The run's budget of tokens or money is used up; the run can be resumed with a larger one."""


class AgentError(MmalignError, RuntimeError):
    """A node raised what is no failure of its sample: the agent or its settings are wrong."""


class FailedRatioError(MmalignError, RuntimeError):
    """So many samples failed that going on would waste the rest."""


class RunInterruptedError(MmalignError, RuntimeError):
    """The user or the system asked the run to end; it can be resumed."""


class ToolError(MmalignError, ValueError):
    """A tool cannot do what it was asked; the model that called it is told and may call again."""


class SandboxError(MmalignError, RuntimeError):
    """Generated code cannot be run here in the isolation that is demanded."""


class MissingPredictionsError(MmalignError, ValueError):
    """Some samples have no prediction."""
