"""A policy on a vLLM server: token ids in and out, and weights that follow the training.

The server is started with LoRA and with the adapters' endpoint open:

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve MODEL --enable-lora --max-loras 2

It must see the folders that adapters are written to. What it is asked stands in vLLM's
documentation of its OpenAI-compatible server: /v1/completions takes ids as its prompt and gives
the ids that it drew (`return_token_ids`), /v1/load_lora_adapter reads an adapter from a folder.

Left out: media in prompts, and full weights, which vLLM takes over NCCL from a process that has
vLLM itself.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mmalign.errors import CapabilityError, ConfigError, ModelResponseError
from mmalign.models.decoding import Draw, Drawn
from mmalign.models.families import EncodedPrompt, processor_of
from mmalign.models.families.causal_lm import CausalLM
from mmalign.models.token_sampling import TokenSampling, end_tokens
from mmalign.models.transport import ModelServer, ServerConfig
from mmalign.records import Message

__all__ = ["TokenServer", "TokenServerConfig"]


class TokenServerConfig(ServerConfig):
    """Where the policy is served, and how its text becomes ids."""

    model: str = Field(min_length=1)
    """Name that the server knows the base model by."""
    tokenizer: str = Field(min_length=1)
    """Folder or hub name of its tokenizer."""


class TokenServer(TokenSampling):
    """`SamplesTokens` over a vLLM server.

    Log-probs are those that the server computed; a trainer that learns from them compares them
    with its own first, since two back ends never agree to the last digit.
    """

    def __init__(self, config: TokenServerConfig, tokenizer: Any = None) -> None:
        """Connect to nothing yet.

        Args:
            config: The server.
            tokenizer: Loaded already; None loads the recipe's.
        """
        self._processor = self._tokenizer = tokenizer or processor_of(config.tokenizer)
        self._family = CausalLM()
        self._end_ids = end_tokens(self._processor, self._family)
        self._server = ModelServer(config, config.model)
        self._model = config.model
        self._num_pushed = 0

    @property
    def name(self) -> str:
        """Model or adapter that answers now."""
        return self._model

    async def encode_messages(
        self, messages: Sequence[Message], tools: Sequence[str] = ()
    ) -> EncodedPrompt:
        """A prompt of text as the server is sent it."""
        if media := [ref for message in messages for ref in message.media]:
            raise CapabilityError(
                f"{self._server.where}: the prompt holds {media[0].uri}, but only text goes to a "
                f"server as token ids; roll out in process"
            )
        return self._family.encode_prompt(self._processor, messages, [], tools=tools)

    async def draw_behind(self, draw: Draw) -> Drawn:
        """The tokens that follow prompt and tail."""
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": [*draw.prompt.input_ids.tolist(), *draw.tail.tolist()],
            "max_tokens": draw.max_tokens,
            "temperature": draw.temperature,
            "top_p": draw.top_p,
            "seed": draw.seed % 2**31,
            "logprobs": 0,
            "return_token_ids": True,
            "stop_token_ids": sorted(self._end_ids),
            "skip_special_tokens": False,
        }
        if draw.stop:
            body |= {"stop": list(draw.stop), "include_stop_str_in_output": True}
        return await self._server.post("/completions", body, self._read)

    async def push_adapter(self, folder: Path) -> None:
        """Answer from now on with the adapter that PEFT saved in a folder.

        Every push has a name of its own, so that nothing that the server remembers of older
        weights is used; the adapter before it is unloaded.

        Raises:
            ConfigError: The folder holds no adapter, or the server does not take any.
            ModelCallError: The server cannot be reached.
        """
        if not (folder / "adapter_model.safetensors").is_file():
            raise ConfigError(f"{folder}: holds no adapter_model.safetensors; train with LoRA")
        before = self._model if self._num_pushed else None
        name = f"policy-{self._num_pushed + 1}"
        asked = {"lora_name": name, "lora_path": str(folder.resolve())}
        await self._server.post("/load_lora_adapter", asked, str)
        self._model, self._num_pushed = name, self._num_pushed + 1
        if before is not None:
            await self._server.post("/unload_lora_adapter", {"lora_name": before}, str)

    async def close(self) -> None:
        """Close the running loop's connections."""
        await self._server.close()

    def _read(self, text: str) -> Drawn:
        try:
            choice: Mapping[str, Any] = json.loads(text)["choices"][0]
            ids = [int(token) for token in choice["token_ids"]]
            logprobs = [float(value) for value in choice["logprobs"]["token_logprobs"]]
            reason = choice["finish_reason"]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelResponseError(
                f"{self._server.where}: the answer holds no token_ids with log-probs "
                f"({type(error).__name__}: {error}); use a vLLM server that knows return_token_ids"
            ) from error
        if len(ids) != len(logprobs) or not ids or reason not in ("stop", "length"):
            raise ModelResponseError(
                f"{self._server.where}: {len(ids)} token_ids, {len(logprobs)} log-probs, "
                f"finish_reason {reason!r}; expected as many of both, and stop or length"
            )
        return Drawn(ids, logprobs, reason)
