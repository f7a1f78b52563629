"""The public names; whoever removes one breaks agents, tools and readers of others."""

import mmalign.api

NAMES = """
AudioClip CapabilityError Cell ChatModel ClipChoice ComparesClips Completion Config ConfigError
Context DroppedSample EXECUTION_MATRIX ExecutionMatrix FrameSampling Judgement Limits Lineage
MediaError MediaOperation MediaPart MediaRef Message MinimaxChoice MmalignError ModelCallError
PreferencePair RecordError Reply Response RunResult Sample Sampling Sandbox SandboxConfig Span
TextPart TokenLogprobs ToolCall Usage VideoClip answer_blocks ask_until_valid assemble_audio_visual
cache_folder choose_ambiguous choose_clip clues_of content_id differing_spans file_hash gold_answer
judge_answer load_audio load_video minimax_pair operation parse_tagged probe probe_audio random_pair
sentences_of test_problem text_of user write_tagged write_video
"""


def test_public_names_are_pinned() -> None:
    assert sorted(mmalign.api.__all__) == sorted(NAMES.split())


def test_public_names_exist() -> None:
    assert [name for name in mmalign.api.__all__ if not hasattr(mmalign.api, name)] == []
