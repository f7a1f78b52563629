"""The public names; whoever removes one breaks agents, tools and readers of others."""

import mmalign.api

NAMES = """
Attempt AudioClip CapabilityError Cell ChatModel ClipChoice ComparesClips Completion Config
ConfigError Context CoordSpace DroppedSample EXECUTION_MATRIX Episode ExecutionMatrix FrameSampling
ImageSizes Judgement LabelledBox LabelledResponse Limits Lineage MediaError MediaOperation MediaPart
MediaRef Message MinimaxChoice MmalignError ModelCallError NotApplicable PreferencePair RecordError
Reply Response Reward RewardFunction Rollout RolloutConfig RolloutTool RunResult Sample
SamplesTokens Sampling Sandbox SandboxConfig Span TextPart TokenLogprobs ToolCall ToolConfig
ToolError ToolPair Usage VideoClip answer_blocks ask_until_valid assemble_audio_visual cache_folder
choose_ambiguous choose_clip clues_of content_id coord_sizes detection_metadata detection_row
differing_spans exact_match file_hash gold_answer gold_answers_of import_plugin invoke_tool
judge_answer load_audio load_tools load_video minimax_pair operation parse_tagged probe probe_audio
prompt_messages random_pair reward roll_out sentences_of test_problem text_of tool_pairs
tool_schemas user write_tagged write_video written_boxes
"""


def test_public_names_are_pinned() -> None:
    assert sorted(mmalign.api.__all__) == sorted(NAMES.split())


def test_public_names_exist() -> None:
    assert [name for name in mmalign.api.__all__ if not hasattr(mmalign.api, name)] == []
