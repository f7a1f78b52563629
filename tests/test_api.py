"""The public names; whoever removes one breaks agents, tools and readers of others."""

import mmalign.api

NAMES = """
AudioClip CapabilityError ChatModel Completion Config ConfigError Context DroppedSample
FrameSampling Lineage MediaError MediaOperation MediaPart MediaRef Message MmalignError
ModelCallError PreferencePair RecordError Response Sample Sampling Span TextPart TokenLogprobs
ToolCall Usage VideoClip cache_folder content_id differing_spans file_hash load_video operation
parse_tagged text_of user write_tagged write_video
"""


def test_public_names_are_pinned() -> None:
    assert sorted(mmalign.api.__all__) == sorted(NAMES.split())


def test_public_names_exist() -> None:
    assert [name for name in mmalign.api.__all__ if not hasattr(mmalign.api, name)] == []
