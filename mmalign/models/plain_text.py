"""Text as token ids in which nothing is a control token, whatever the text says."""

import json
from typing import Any

from tokenizers import Tokenizer

from mmalign.errors import ConfigError

__all__ = ["PlainTokenizer"]


class PlainTokenizer:
    """A tokenizer's pipeline without its added tokens: what a tool prints cannot end a turn.

    It is a copy, because transformers switches control tokens on and off by a field that all
    threads share.

    Args:
        tokenizer: A fast one of transformers.

    Raises:
        ConfigError: It is none.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise ConfigError(
                f"{type(tokenizer).__name__} is no fast tokenizer; use a model with a "
                f"tokenizer.json, so that tool output can be kept apart from control tokens"
            )
        settings = json.loads(tokenizer.backend_tokenizer.to_str())
        settings |= {"added_tokens": [], "post_processor": None}
        self._pipeline = Tokenizer.from_str(json.dumps(settings))
        self._pipeline.no_truncation()
        self._pipeline.no_padding()
        self._added = set(tokenizer.added_tokens_decoder) - {tokenizer.unk_token_id}

    def ids(self, text: str) -> tuple[int, ...]:
        """Ids of a text, none of them of an added token."""
        encoding = self._pipeline.encode(text, add_special_tokens=False)
        ids: list[int] = []
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token not in self._added:
                ids.append(token)
                continue
            # a vocabulary that holds the control token's name as a word
            for part in (text[start : start + 1], text[start + 1 : end]):
                found = self._pipeline.encode(part, add_special_tokens=False).ids
                ids += [other for other in found if other not in self._added]
        return tuple(ids)
