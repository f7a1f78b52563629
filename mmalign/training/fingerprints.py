"""Hashes of what decides a model's numbers: weights, processors, the media of a prompt."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from torch import Tensor

from mmalign.errors import ConfigError
from mmalign.media import FrameSampling, file_hash
from mmalign.media.readers import decoder_versions
from mmalign.media.source import content_hash, open_source
from mmalign.records import MediaPart, MediaRef, Message, content_id

__all__ = [
    "media_fingerprint",
    "processor_fingerprint",
    "prompt_fingerprint",
    "tensors_hash",
    "weights_fingerprint",
]

_WEIGHTS = ("*.safetensors", "config.json", "adapter_config.json")


def tensors_hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """32 hexadecimal digits of names, types, shapes and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors:
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def weights_fingerprint(path: str) -> dict[str, Any]:
    """Content hashes of a model's weights and configuration, file by file.

    Args:
        path: Folder or hub name; what the hub has and this machine has not is fetched. The base
            of an adapter counts with it.

    Raises:
        ConfigError: There are no safetensors.
    """
    folder = Path(path)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(path, allow_patterns=list(_WEIGHTS)))
        except (HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
            raise ConfigError(f"model {path!r} cannot be found: {error}") from error
    files = sorted({file for pattern in _WEIGHTS for file in folder.glob(pattern)})
    if not any(file.suffix == ".safetensors" for file in files):
        raise ConfigError(f"{folder}: found no *.safetensors, expected the weights of a model")
    found: dict[str, Any] = {file.name: file_hash(file) for file in files}
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        base = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
        found["base"] = weights_fingerprint(base)
    return found


def processor_fingerprint(processor: Any) -> dict[str, str]:
    """Content hashes of all files of a processor or tokenizer, its chat template among them."""
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
        return {str(file.relative_to(folder)): file_hash(file) for file in files}


def media_fingerprint(refs: Sequence[MediaRef], sampling: FrameSampling) -> str:
    """32 hexadecimal digits of what the processor will be given for these media, in order.

    Content, range and operations of each, how frames are sampled and by which decoders; not
    where the files are.

    Raises:
        MediaError: A file is missing.
    """
    return content_id(
        {
            "media": [_named_by_content(ref).id_content() for ref in refs],
            "sampling": sampling.model_dump(mode="json"),
            "decoders": decoder_versions(),
        }
    )


def prompt_fingerprint(
    messages: Sequence[Message], tools: Sequence[str], sampling: FrameSampling
) -> str:
    """32 hexadecimal digits of what decides a prompt's ids and media under one processor.

    Raises:
        MediaError: A file is missing.
    """
    named = [
        message.model_copy(
            update={
                "content": tuple(
                    MediaPart(media=_named_by_content(part.media))
                    if isinstance(part, MediaPart)
                    else part
                    for part in message.content
                )
            }
        )
        for message in messages
    ]
    refs = [ref for message in named for ref in message.media]
    return content_id(
        {
            "messages": [message.id_content() for message in named],
            "tools": list(tools),
            "media": media_fingerprint(refs, sampling) if refs else "",
        }
    )


def _named_by_content(ref: MediaRef) -> MediaRef:
    operations = tuple(
        item
        if item.other is None
        else item.model_copy(update={"other": _named_by_content(item.other)})
        for item in ref.operations
    )
    found: Mapping[str, Any] = {
        "content_hash": ref.content_hash or content_hash(open_source(ref.uri)),
        "operations": operations,
    }
    return ref.model_copy(update=found)


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data
