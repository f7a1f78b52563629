"""ODinW: object detection in the wild, thirteen small sets in COCO's format.

Source: ODinW (Li et al., 2022), of which thirteen sets are customary; four more are those that
Vision-R1 (Zhan et al., 2025) calls out of domain. One query for each category of a picture, as
Vision-R1 evaluates; the value is the unweighted mean of the sets' mAP.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmalign.api import ConfigError, CoordSpace, Sample
from mmalign.datasets import coco

__all__ = ["OUT_OF_DOMAIN", "SETS", "read"]

SETS: Mapping[str, str] = {
    "AerialMaritimeDrone": "large",
    "Aquarium": "",
    "CottontailRabbits": "",
    "EgoHands": "generic",
    "NorthAmericaMushrooms": "",
    "Packages": "",
    "PascalVOC": "",
    "pistols": "",
    "pothole": "",
    "Raccoon": "",
    "ShellfishOpenImages": "",
    "thermalDogsAndPeople": "",
    "VehiclesOpenImages": "",
}
"""Folder of each set, and the variant in it."""
OUT_OF_DOMAIN: Mapping[str, str] = {
    "boggleBoards": "",
    "MountainDewCommercial": "",
    "ThermalCheetah": "",
    "vector": "",
}
_FILE = "*annotations_without_background.json"
_SPLIT = "val"


def read(
    root: str | Path,
    *,
    sets: Sequence[str] = tuple(SETS),
    query: coco.Query = "each",
    coord_space: CoordSpace = "input_pixels",
    limits: Mapping[str, int] | None = None,
    num_samples: int | None = None,
) -> Iterator[Sample]:
    """Detection rows of the validation splits, set by set.

    Args:
        root: Folder of the sets' folders.
        sets: Names of `SETS` or `OUT_OF_DOMAIN`.
        query: As `coco.read`.
        coord_space: As `coco.read`.
        limits: As `coco.read`.
        num_samples: Only so many rows of each set.

    Raises:
        ConfigError: There is no such set, or not one file of annotations in its folder.
        RecordError: As `coco.read`.
    """
    known = {**SETS, **OUT_OF_DOMAIN}
    for name in sets:
        if name not in known:
            raise ConfigError(f"odinw: found set {name!r}, expected one of {', '.join(known)}")
        path = _annotations(Path(root) / name / known[name])
        rows = coco.read(
            path,
            path.parent,
            query=query,
            coord_space=coord_space,
            limits=limits,
            num_samples=num_samples,
            subset=name,
        )
        for row in rows:
            yield row.model_copy(update={"metadata": {**row.metadata, "dataset": "odinw"}})


def _annotations(folder: Path) -> Path:
    """The one file of a validation split: in a folder `valid`, or named for it."""
    found = [
        path
        for path in sorted(folder.rglob(_FILE))
        if path.parent.name.startswith(_SPLIT) or path.name.startswith(_SPLIT)
    ]
    if len(found) != 1:
        raise ConfigError(
            f"{folder}: found {len(found)} files {_FILE} of a validation split, expected one: "
            f"{', '.join(map(str, found)) or 'none'}"
        )
    return found[0]
