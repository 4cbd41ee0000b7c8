"""What can be asked of `predict` and `infer` beside their images: one value for each subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from paddlefcn.errors import UserError
from paddlefcn.refine.settings import RefineOptions

POLYGON_ENDINGS = {"geojson": ".geojson", "labelme": ".json"}


@dataclass(frozen=True)
class Wanted:
    """What is written beside the class ids.

    Args:
        overlay: NAME_overlay.png, the classes over the image.
        figure: NAME_figure.png: image, map, overlay and shares in one picture.
        probabilities: NAME_probabilities.npy, float16 [num_classes, H, W].
        polygons: "geojson": NAME.geojson with map coordinates; "labelme": NAME.json.
        simplify: how many pixels the outlines in these may leave those of the label map, 0 to 1000.

    Raises:
        UserError: another format, or a `simplify` out of its range or without outlines.
    """

    overlay: bool = True
    figure: bool = False
    probabilities: bool = False
    polygons: str | None = None
    simplify: float = 0.0

    def __post_init__(self) -> None:
        if self.polygons is not None and self.polygons not in POLYGON_ENDINGS:
            raise UserError(f"--polygons {self.polygons}: expected {' or '.join(POLYGON_ENDINGS)}")
        if not 0 <= self.simplify <= 1000:
            raise UserError(f"--simplify {self.simplify:g}: expected pixels, 0 to 1000")
        if self.simplify and self.polygons is None:
            raise UserError("--simplify is about outlines; add --polygons geojson or labelme")


@dataclass(frozen=True)
class Request:
    """What is asked of a prediction beside its images.

    Args:
        wanted: what is written.
        refine: CRF, small components, unsure pixels, a map of the confidence (NAME_confidence.png); nothing
            of it if not given.
        tile: side of the tiles, in pixels, that images are predicted in, for images larger than memory.
        overwrite: whether what is in the output folder is removed first.
        resume: whether a prediction that was stopped there goes on; one of other weights or options is
            refused.

    Raises:
        UserError: a tile out of 1 to 65536 pixels, or with files that need whole images.
    """

    wanted: Wanted = field(default_factory=Wanted)
    refine: RefineOptions = field(default_factory=RefineOptions)
    tile: int | None = None
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if self.tile is None:
            return
        if not 1 <= self.tile <= 1 << 16:
            raise UserError(f"--tile {self.tile}: expected 1 to 65536 pixels")
        if self.wanted.probabilities or self.refine.confidence:
            option = "--probabilities" if self.wanted.probabilities else "--confidence"
            raise UserError(f"--tile goes without {option}: memory would not hold them")

    @property
    def endings(self) -> list[str]:
        """Of the files of one image, after its name."""
        wanted = self.wanted
        return [
            ".png",
            *(["_overlay.png"] if wanted.overlay else []),
            *(["_figure.png"] if wanted.figure else []),
            *(["_probabilities.npy"] if wanted.probabilities else []),
            *(["_confidence.png"] if self.refine.confidence else []),
            *([POLYGON_ENDINGS[wanted.polygons]] if wanted.polygons else []),
        ]

    @property
    def needs_scores(self) -> bool:
        """Whether class ids of the network alone are not enough."""
        return self.wanted.probabilities or self.refine.needs_scores

    def check_views(self, once: bool) -> None:
        """UserError for tiles, unless the network sees each image `once` and whole."""
        if self.tile is not None and not once:
            raise UserError("--tile goes without --sliding, --multi-scale and --flip")


@dataclass(frozen=True)
class Views:
    """How often an export sees an image; the class probabilities of all are averaged.

    Args:
        scales: factors on height and width.
        flip: whether each size is also seen mirrored left to right.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(self.scales))

    @property
    def once(self) -> bool:
        """Whether it is the image as it is, and nothing else."""
        return not self.flip and self.scales == (1.0,)


@dataclass(frozen=True)
class EngineOptions:
    """What runs an export.

    Args:
        runtime: an engine of those that passed the gate; "auto" is the fastest of them that is installed.
        onednn: whether Paddle uses oneDNN on a CPU.
        threads: threads of a CPU; all cores if not given.
    """

    runtime: str = "auto"
    onednn: bool = True
    threads: int | None = None


def with_keywords(function: str, asked: Mapping[str, Any], *values: Any) -> list[Any]:
    """The values with those fields replaced that plain keywords name, so that a call may say `tile=512`.

    Args:
        function: who was called, for the error.
        asked: keyword -> value; each is a field of one of the values, or of a value that one of them holds.
        values: dataclasses, no two with a field of one name.

    Raises:
        TypeError: a keyword that none of them knows; names those that are known.
        UserError: what a value says of its fields.
    """
    left, made = dict(asked), []
    known: list[str] = []
    for value in values:
        own = {one.name: getattr(value, one.name) for one in fields(value)}
        for name, inner in own.items():
            given = left.pop(name, inner)
            if is_dataclass(inner) and not isinstance(inner, type):
                inner = inner if given is None else given
                below = {one.name for one in fields(inner)}
                known += sorted(below)
                given = replace(inner, **{key: left.pop(key) for key in below & left.keys()})
            own[name] = given
        known += own
        made.append(replace(value, **own))
    if left:
        raise TypeError(f"{function}() takes no {min(left)!r}; known: {', '.join(sorted(known))}")
    return made
