"""From a file or its bytes to pixels: the decoders, and what they must not be trusted with."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from paddlefcn.data.jpeg import decode_jpeg, plain_size
from paddlefcn.data.jpeg_scans import check_scans, is_jpeg
from paddlefcn.data.medical import is_dicom, read_dicom
from paddlefcn.data.png import SIGNATURE, decode_plain_png
from paddlefcn.data.tiff import TiffScene
from paddlefcn.data.tiff_tags import is_tiff
from paddlefcn.errors import DataError

# formats by name: Pillow's other plugins start programs (EPS) or are seldom hardened
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "PPM")


# bytes: a file that is not larger is read whole, once, instead of by every decoder that looks at it
_AT_ONCE = 1 << 26
_HEAD = 132  # bytes that tell every format


def source_name(source: str | Path | bytes) -> str:
    """What an error calls the source."""
    return f"of {len(source)} bytes" if isinstance(source, bytes) else str(source)


@contextlib.contextmanager
def naming_errors(source: str | Path | bytes, what: str) -> Iterator[None]:
    """Whatever a decoder raises becomes a DataError that names the file. `what`: image or mask."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{what} {source_name(source)}: {error}") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{what} {source_name(source)}: is no image (PNG, JPEG, TIFF, BMP, DICOM or .npy)"
        ) from None
    # decoders raise nearly anything on a damaged file; its name is what the user needs
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{what} {source_name(source)}: cannot be read, damaged or truncated ({reason[:200]})"
        ) from error


def check_file(path: Path) -> None:
    """DataError (without the name) unless there is a file with something in it."""
    if not path.is_file():
        other = "is a pipe or device; expected a file" if path.exists() else "no such file"
        raise DataError("is a folder" if path.is_dir() else other)
    if path.stat().st_size == 0:
        raise DataError("is empty")


def decode(source: Path | bytes, kind: str, max_pixels: int) -> np.ndarray:
    """HxWxC of uint8, uint16 or float32. kind: image, mask (palette indices) or colors (a mask's colours).

    Raises:
        DataError: without the file's name; a damaged file raises what its decoder does.
    """
    npy = source[:6] == b"\x93NUMPY" if isinstance(source, bytes) else source.suffix.lower() == ".npy"
    array = _read_npy(source, max_pixels) if npy else _decode(source, kind, max_pixels)
    if array.size == 0:
        raise DataError(f"has no pixels (shape {array.shape})")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError("holds values that are not finite")
    return array


def _check_pixels(height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise DataError(
            f"{height}x{width} are {height * width} pixels, more than data.max_pixels {max_pixels}"
        )


def map_npy(source: Path | bytes) -> np.ndarray:
    """The array HxWxC of a .npy file, mapped, so that a lying header allocates nothing. Raises DataError."""
    # pickled objects are refused
    if isinstance(source, bytes):
        array = np.load(io.BytesIO(source), allow_pickle=False)
    else:
        array = np.load(source, mmap_mode="r", allow_pickle=False)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise DataError(f"array of shape {array.shape}; expected HxW or HxWxC")
    if array.dtype.kind not in "buif":
        raise DataError(f"array of {array.dtype}; expected numbers")
    return array


def stored_size(path: Path) -> tuple[int, int]:
    """(height, width) as the image will be read, its orientation applied, without decoding it."""
    if path.suffix.lower() == ".npy":
        return map_npy(path).shape[:2]
    head = _head(path, _HEAD)
    if is_dicom(head):
        return decode(path, "image", 1 << 40).shape[:2]
    if is_tiff(head):
        with TiffScene(path, max_pixels=1 << 40) as scene:
            return scene.height, scene.width
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=FORMATS) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)


def _read_npy(source: Path | bytes, max_pixels: int) -> np.ndarray:
    array = map_npy(source)
    _check_pixels(array.shape[0], array.shape[1], max_pixels)
    if array.shape[0] * array.shape[1] * array.shape[2] > 16 * max_pixels:
        raise DataError(f"array of shape {array.shape} is too large; expected HxWxC")
    return plain_dtype(np.array(array))


def plain_dtype(array: np.ndarray) -> np.ndarray:
    """uint8, uint16 and float32; other integers become the smallest of these that holds them."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype.kind in "iu" and array.dtype not in (np.uint8, np.uint16):
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if low >= 0 and high <= 65535:
            return array.astype(np.uint16 if array.itemsize > 1 else np.uint8)
        return array.astype(np.float32)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="))


def _head(source: Path | bytes, length: int) -> bytes:
    if isinstance(source, bytes):
        return source[:length]
    with open(source, "rb") as file:
        return file.read(length)


def _opened(source: Path | bytes) -> tuple[bytes, Path | bytes]:
    """The first bytes of the source, and the source: in bytes, if it is neither large nor a TIFF."""
    if isinstance(source, bytes):
        return source[:_HEAD], source
    with open(source, "rb", buffering=0) as file:
        head = file.read(_HEAD)
        if is_tiff(head) or os.fstat(file.fileno()).st_size > _AT_ONCE:
            return head, source
        return head, head + file.readall()


def _check_jpeg(source: Path | bytes) -> None:
    if isinstance(source, bytes):
        check_scans(source)
        return
    with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        check_scans(data)  # type: ignore[arg-type]


def _decode(source: Path | bytes, kind: str, max_pixels: int) -> np.ndarray:
    head, source = _opened(source)
    if is_tiff(head):
        with TiffScene(source, kind, max_pixels=max_pixels) as scene:
            _check_pixels(scene.height, scene.width, max_pixels)
            if not scene.converted:
                return plain_dtype(scene.read())
    if is_jpeg(head):
        _check_jpeg(source)
        pixels = _plain_jpeg(source, max_pixels)
        if pixels is not None:
            return pixels
    if kind == "mask":
        ids = _plain_mask(source, max_pixels)
        if ids is not None:
            return ids
    if is_dicom(head):
        return plain_dtype(read_dicom(source, max_pixels))
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # the user allows more than Pillow's own limit
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata; the limit is checked here
            with Image.open(file, formats=FORMATS) as image:
                _check_pixels(image.height, image.width, max_pixels)
                return _oriented(_pixels(image, source, kind), image.getexif().get(0x0112, 1))
    except Image.DecompressionBombError as error:
        raise DataError(f"more pixels than data.max_pixels {max_pixels} ({error})") from None


def _plain_jpeg(source: Path | bytes, max_pixels: int) -> np.ndarray | None:
    """The pixels of a whole file without anything odd about it; None for any other."""
    size = plain_size(source) if isinstance(source, bytes) else None
    if size is None or size[0] * size[1] > max_pixels or not isinstance(source, bytes):
        return None
    return decode_jpeg(source, *size)


def _plain_mask(source: Path | bytes, max_pixels: int) -> np.ndarray | None:
    """The ids of a PNG in its plainest form, HxWx1; None for any other file."""
    if not _head(source, len(SIGNATURE)).startswith(SIGNATURE):
        return None
    return decode_plain_png(source if isinstance(source, bytes) else source.read_bytes(), max_pixels)


def _pixels(image: Image.Image, source: Path | bytes, kind: str) -> np.ndarray:
    if image.format == "JPEG" and image.mode in ("RGB", "L"):
        content = source if isinstance(source, bytes) else source.read_bytes()
        quick = decode_jpeg(content, image.height, image.width)
        if quick is not None:
            return quick
    image.load()  # raises on truncated data, which cv2 would accept
    if _sample_bits(image, source) > 8 and image.mode in ("RGB", "RGBA", "LA"):
        return _deep_colors(source, image)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)[:, :, None] * np.uint8(1 if kind == "mask" else 255)
    if image.mode in ("P", "PA"):
        if kind == "mask":
            return np.asarray(image if image.mode == "P" else image.getchannel(0))[:, :, None]
        image = image.convert("RGB")
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "F") and not image.mode.startswith("I"):
        image = image.convert("RGB")  # CMYK, YCbCr, LAB …
    array = np.asarray(image)
    return plain_dtype(array if array.ndim == 3 else array[:, :, None])


def _sample_bits(image: Image.Image, source: Path | bytes) -> int:
    """Bits of a channel as the file holds them; Pillow reduces 16-bit colours to 8 without a word."""
    if image.format in ("PNG", "PPM"):
        head = _head(source, 64)
        if image.format == "PNG":
            return head[24] if head[12:16] == b"IHDR" else 8
        return 16 if image.mode == "RGB" and _ppm_maximum(head) > 255 else 8
    return 8


def _ppm_maximum(head: bytes) -> int:
    words = [word for word in head.split() if not word.startswith(b"#")]
    return int(words[3]) if len(words) > 3 and words[3].isdigit() else 255


def _deep_colors(source: Path | bytes, image: Image.Image) -> np.ndarray:
    """16-bit colours by cv2, from bytes: its imread cannot open every file name on Windows."""
    data = np.frombuffer(source, np.uint8) if isinstance(source, bytes) else np.fromfile(source, np.uint8)
    array = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if array is None or array.shape[:2] != (image.height, image.width):
        raise DataError(f"16-bit {image.format} in mode {image.mode} cannot be decoded; save it as .npy")
    array = array if array.ndim == 3 else array[:, :, None]
    if array.shape[2] >= 3:
        order = [2, 1, 0, 3][: array.shape[2]]
        array = array[:, :, order]
    if image.mode == "LA" and array.shape[2] == 4:
        array = array[:, :, [0, 3]]  # cv2 spreads grey with alpha to four channels
    return np.ascontiguousarray(array)


def _oriented(array: np.ndarray, orientation: Any) -> np.ndarray:
    """EXIF orientation 1 to 8, as a viewer shows the picture."""
    if orientation in (5, 6, 7, 8):
        array = array.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
