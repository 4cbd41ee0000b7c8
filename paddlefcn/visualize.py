"""Pictures of label maps: palettes, palette PNG, overlays with a legend, previews.

Images are [H, W, C] in RGB order, label maps [H, W] class ids.
Plots with axes are in paddlefcn.plots.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from paddlefcn.classes import Classes, voc_palette
from paddlefcn.files import write_bytes

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

VOID = (224, 224, 192)  # the colour of the void border in PASCAL VOC's masks
_OPACITY = 0.55
_LEGEND_ROW = 22  # pixels of height of a legend's line
_GAP = 4
_PREVIEW_SIDE = 640  # pixels


def palette_png(labels: np.ndarray, classes: Classes) -> bytes:
    """A label map as a PNG of class ids whose palette shows the classes' colours.

    Args:
        labels: [H, W] integers; up to 255 they make an 8-bit palette PNG. Larger ids make a 16-bit
            grey one, because a palette holds 256 colours.
        classes: their colours; the rest is filled with VOC's, ignore_index with its void.
    """
    if labels.size and int(labels.max()) > 255:
        return _png(Image.fromarray(labels.astype(np.uint16)))
    image = Image.fromarray(labels.astype(np.uint8)).convert("L")
    image.putpalette(class_colours(classes)[:256].astype(np.uint8).tobytes())
    return _png(image)


def write_palette_png(path: str | Path, labels: np.ndarray, classes: Classes) -> None:
    """`palette_png`, written whole or not at all."""
    write_bytes(path, palette_png(labels, classes))


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """An RGB picture [H, W, 3] uint8 as PNG, written whole or not at all."""
    # trying harder makes photographs no smaller: level 6 takes three times as long for half a per cent
    write_bytes(path, _png(Image.fromarray(picture), compress_level=1))


def colourize(labels: np.ndarray, classes: Classes) -> np.ndarray:
    """A label map in its classes' colours: [H, W, 3] uint8."""
    colours = class_colours(classes)
    return colours[np.clip(labels, 0, len(colours) - 1)]


def displayable(image: np.ndarray) -> np.ndarray:
    """Any image [H, W, C] as RGB [H, W, 3] uint8.

    8-bit values are shown as they are; others are stretched between their 1st and 99th percentile.
    One channel is shown grey, of more than three the first three, of two the first as red and the
    second as green.
    """
    image = image[:, :, None] if image.ndim == 2 else image
    shown = image[:, :, :3]
    if shown.shape[2] == 2:
        shown = np.concatenate([shown, np.zeros_like(shown[:, :, :1])], axis=2)
    if shown.dtype != np.uint8:
        values = np.nan_to_num(shown.astype(np.float32), posinf=0.0, neginf=0.0)
        low, high = np.percentile(values, (1, 99)) if values.size else (0.0, 1.0)
        spread = high - low if high > low else 1.0
        shown = np.clip((values - low) * (255 / spread), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))


def tint(image: np.ndarray, labels: np.ndarray, classes: Classes) -> np.ndarray:
    """The image tinted with the classes' colours: [H, W, 3] uint8.

    A black class (VOC's background) leaves the image as it is.
    """
    result = displayable(image).copy()
    for top in range(0, len(labels), 512):  # in bands: floats of a large image would take gigabytes
        rows = slice(top, top + 512)
        colours = colourize(labels[rows], classes)
        mixed = result[rows] * np.float32(1 - _OPACITY) + colours * np.float32(_OPACITY)
        coloured = colours.any(axis=2, keepdims=True)
        result[rows] = np.where(coloured, mixed.astype(np.uint8), result[rows])
    return result


def show(image: np.ndarray, labels: np.ndarray, classes: Classes) -> Image.Image:
    """`overlay` as a picture that a notebook draws when it is a cell's last value.

    Args:
        image: [H, W, C] of any type, RGB first.
        labels: [H, W] class ids.
        classes: names and colours; of a recipe `config.classes`, of an export
            `predictor.deployment.classes`.

    Raises:
        TypeError: an argument of another kind.
        ValueError: sizes that differ.
    """
    for name, value in (("image", image), ("labels", labels)):
        if not isinstance(value, np.ndarray):
            raise TypeError(f"show: {name} is {type(value).__name__}; expected a numpy array")
    if not isinstance(classes, Classes):
        raise TypeError(f"show: classes is {type(classes).__name__}; expected Classes(names)")
    if image.ndim != 3 or labels.ndim != 2 or image.shape[:2] != labels.shape:
        raise ValueError(
            f"show: image {list(image.shape)} and labels {list(labels.shape)}; expected [H, W, C] and [H, W]"
        )
    return Image.fromarray(overlay(image, labels, classes))


def _class_borders(labels: np.ndarray) -> np.ndarray:
    """Pixels with a neighbour of another class: [H, W] bool."""
    edges = np.zeros(labels.shape, bool)
    below, right = labels[:-1] != labels[1:], labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= below
    edges[1:] |= below
    edges[:, :-1] |= right
    edges[:, 1:] |= right
    return edges


def overlay(image: np.ndarray, labels: np.ndarray, classes: Classes) -> np.ndarray:
    """The tinted image with a legend of the classes in it on the right: [H', W', 3] uint8.

    The border of a class is drawn in its full colour, so that it can be told from an image that has the
    same one.

    The legend lists the largest class first; the picture is enlarged downwards if it needs more
    height than the image has.
    """
    picture = tint(image, labels, classes)
    solid = colourize(labels, classes)
    edges = np.logical_and(_class_borders(labels), solid.any(axis=2))
    picture[edges] = solid[edges]
    ids, counts = np.unique(labels, return_counts=True)
    entries = [
        (classes.name(int(index)), int(index), count / labels.size)
        for index, count in sorted(zip(ids, counts), key=lambda pair: -pair[1])
    ]
    panel = legend(entries, classes)
    height = max(picture.shape[0], panel.shape[0])
    return np.concatenate([_padded(picture, height), _padded(panel, height)], axis=1)


def legend(entries: Sequence[tuple[str, int, float]], classes: Classes) -> np.ndarray:
    """A white panel of lines: colour, name and share (0..1) of each (name, id, share)."""
    lines = [(drawable(name, index), index, f"{share:6.1%}") for name, index, share in entries]
    fonts = [font(name) for name, _, _ in lines]
    widths = [face.getlength(name) for face, (name, _, _) in zip(fonts, lines)]
    edge = _LEGEND_ROW + _GAP + int(max(widths, default=0)) + 12
    size = (edge + 52, len(lines) * _LEGEND_ROW + _GAP)
    panel = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(panel)
    colours = class_colours(classes)
    for row, (face, (name, index, share)) in enumerate(zip(fonts, lines)):
        top = row * _LEGEND_ROW + _GAP
        box = (_GAP + 1, top + 1, _LEGEND_ROW - 2, top + _LEGEND_ROW - 6)
        colour = tuple(int(part) for part in colours[min(index, len(colours) - 1)])
        draw.rectangle(box, fill=colour, outline=(96, 96, 96))
        middle = top + _LEGEND_ROW // 2 - 3
        draw.text((_LEGEND_ROW + _GAP, middle), name, "black", face, anchor="lm")
        draw.text((edge + 48, middle), share, (96, 96, 96), font("0"), anchor="rm")
    return np.asarray(panel)


def preview(
    image: np.ndarray,
    label: np.ndarray | None,
    pred: np.ndarray,
    classes: Classes,
) -> np.ndarray:
    """Image, truth (if there is one) and prediction side by side below their titles: [H, W', 3] uint8.

    All three at the prediction's size, or reduced so that no side is longer than 640 pixels.
    """
    columns = [("image", displayable(image))]
    columns += [] if label is None else [("truth", colourize(label, classes))]
    columns.append(("prediction", colourize(pred, classes)))
    factor = min(1.0, _PREVIEW_SIDE / max(pred.shape))
    size = (max(1, round(pred.shape[1] * factor)), max(1, round(pred.shape[0] * factor)))
    parts = []
    for title, picture in columns:
        if (picture.shape[1], picture.shape[0]) != size:
            # a mixture of two classes' colours would look like a third class
            method = Image.Resampling.BILINEAR if title == "image" else Image.Resampling.NEAREST
            picture = np.asarray(Image.fromarray(picture).resize(size, method))
        column = np.concatenate([_caption(title, size[0]), picture])
        parts += [column, np.full((len(column), _GAP, 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)


def gallery(rows: Sequence[tuple[str, np.ndarray]], max_width: int = 1500) -> np.ndarray:
    """Pictures [H, W, 3] uint8 under each other, each below its caption: one picture."""
    bands = []
    for caption, picture in rows:
        if picture.shape[1] > max_width:
            height = max(1, round(picture.shape[0] * max_width / picture.shape[1]))
            picture = np.asarray(Image.fromarray(picture).resize((max_width, height)))
        bands += [_caption(caption, picture.shape[1]), picture]
    width = max(band.shape[1] for band in bands)
    return np.concatenate([_padded(band, band.shape[0], width) for band in bands])


@lru_cache(maxsize=256)
def font_path(text: str) -> str | None:
    """A font file that has every character of the text; None if this machine has none.

    matplotlib's own DejaVu Sans is tried first, then the system's fonts: cv2 and PIL's built-in
    font cannot draw Chinese, Japanese or Korean.
    """
    import matplotlib
    from matplotlib import font_manager

    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    if _covers(str(own), text):
        return str(own)
    known = (
        "cjk",
        "wqy",
        "simhei",
        "msyh",
        "pingfang",
        "heiti",
        "fallback",
        "sourcehan",
        "notosans",
    )
    found = sorted(font_manager.findSystemFonts())
    found.sort(key=lambda path: not any(word in Path(path).name.lower() for word in known))
    return next((path for path in found if _covers(path, text)), None)


def drawable(name: str, index: int) -> str:
    """The class's name, or "class 3" if no font of this machine can draw it."""
    return name if font_path(name) is not None else f"class {index}"


def font(text: str, size: int = 13) -> FreeTypeFont:
    """A font for the text; DejaVu Sans if no other has its characters."""
    from PIL import ImageFont

    path = font_path(text) or font_path("a")
    assert path is not None  # matplotlib ships DejaVu Sans
    return ImageFont.truetype(path, size)


def _covers(path: str, text: str) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        known = FT2Font(path).get_charmap()
    except (OSError, RuntimeError):  # not a font that FreeType reads
        return False
    return all(ord(char) in known for char in text)


def class_colours(classes: Classes) -> np.ndarray:
    """At least 256 colours: the classes', then VOC's, and void at ignore_index. [K, 3] uint8."""
    colours = np.array(voc_palette(max(256, len(classes))), np.uint8)
    colours[: len(classes)] = np.asarray(classes.palette, np.uint8)
    if len(classes) <= classes.ignore_index < len(colours):
        colours[classes.ignore_index] = VOID
    return colours


def _caption(text: str, width: int) -> np.ndarray:
    strip = Image.new("RGB", (width, _LEGEND_ROW), "white")
    draw = ImageDraw.Draw(strip)
    draw.text((_GAP, _LEGEND_ROW // 2), text, "black", font(text), anchor="lm")
    return np.asarray(strip)


def _padded(picture: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """White added below and on the right."""
    below = height - picture.shape[0]
    right = 0 if width is None else width - picture.shape[1]
    return np.pad(picture, ((0, below), (0, right), (0, 0)), constant_values=255)


def _png(image: Image.Image, compress_level: int = 6) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()
