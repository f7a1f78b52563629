"""Low-rank adapters, and the modules that are trained whole beside them."""

from collections.abc import Sequence

from peft import LoraConfig, get_peft_model
from peft.utils import ModulesToSaveWrapper
from torch import nn

from mmalign.errors import ConfigError
from mmalign.models.families import ModelFamily
from mmalign.training.config import LoraSettings

__all__ = ["with_adapter"]


def with_adapter(model: nn.Module, family: ModelFamily, lora: LoraSettings | None) -> nn.Module:
    """The model under a fresh adapter on its language model, or as it is.

    Raises:
        ConfigError: A module that is to be trained whole is not there, or is part of the text.
    """
    if lora is None:
        return model
    targets = list(lora.lora_target_modules or family.language_linears(model))  # type: ignore[arg-type]  # families load transformers models
    _require_parts(model, family, lora.modules_to_save)
    config = LoraConfig(
        r=lora.lora_r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=targets,
        modules_to_save=list(lora.modules_to_save) or None,
    )
    policy = get_peft_model(model, config)
    for module in policy.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.modules_to_save.float()  # as PEFT does with low-rank matrices
    return policy


def _require_parts(model: nn.Module, family: ModelFamily, names: Sequence[str]) -> None:
    """Modules that are trained whole stand beside the text decoder and its head.

    The embedding may be one with the head, and the head scores for the reference as well.
    """
    of_text = {
        id(module)
        for part in (family.decoder(model), family.head(model))  # type: ignore[arg-type]  # as above
        for module in part.modules()
    }
    beside = [
        name
        for name, module in model.named_modules()
        if of_text.isdisjoint(map(id, module.modules()))
    ]
    parts = [name for name in beside if name.rpartition(".")[0] not in beside]
    known = ", ".join(name.rpartition(".")[2] for name in parts) or "none in this model"
    for name in names:
        found = [path for path, _ in model.named_modules() if path.endswith(name)]  # PEFT's rule
        whole = [path for path in found if path in beside and f".{path}".endswith(f".{name}")]
        if not found or whole != found:
            raise ConfigError(
                f"lora.modules_to_save: found {name!r}, expected parts beside the text decoder "
                f"({known}) or modules inside these"
            )
