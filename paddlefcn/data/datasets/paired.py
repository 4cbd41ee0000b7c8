"""Published data sets whose masks are found by the name of the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from paddlefcn.data.datasets.base import FilePairs, Sample
from paddlefcn.data.datasets.lists import read_lines
from paddlefcn.data.images import read_mask
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.splits import HeldOut, check_split
from paddlefcn.errors import DataError

_VOID = 255


def _pairs(folder: Path, pattern: str, mask_of: Callable[[Path], Path]) -> list[Sample]:
    """A sample for each image below `folder` that fits the pattern; named by its path in it."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; set data.root to the unpacked data set")
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not files:
        raise DataError(f"{folder}: no image {pattern} in it")
    return [Sample(path.relative_to(folder).as_posix(), path, mask_of(path)) for path in files]


def _one_of(split: str, **folders: str) -> str:
    if split not in folders:
        raise DataError(f"no split {split!r}; this data set has {', '.join(folders)}")
    return folders[split]


class Cityscapes(FilePairs):
    """Cityscapes: leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png.

    The masks hold `labelIds`; `configs/_base_/cityscapes.yml` maps them to the 19 classes that are scored
    (trainIds). The public test masks hold no labels.

    Raises:
        DataError: no such folder, or no image in it.
    """

    def __init__(self, root: Path, split: str, *, labels: Literal["gtFine", "gtCoarse"] = "gtFine") -> None:
        name = _one_of(split, train="train", val="val", test="test")
        self.remarks = []
        base = Path(root)

        def mask_of(image: Path) -> Path:
            stem = image.name.removesuffix("_leftImg8bit.png")
            return base / labels / name / image.parent.name / f"{stem}_{labels}_labelIds.png"

        self.samples = _pairs(base / "leftImg8bit" / name, "*/*_leftImg8bit.png", mask_of)


class CamVid(FilePairs):
    """CamVid in the layout of the SegNet tutorial: SPLIT/*.png and SPLITannot/*.png, 11 classes.

    Masks hold 0 to 10, and 11 (or 255) where nothing is labelled.
    """

    def __init__(self, root: Path, split: str) -> None:
        name = _one_of(split, train="train", val="val", test="test")
        self.remarks = []
        masks = Path(root) / f"{name}annot"
        self.samples = _pairs(Path(root) / name, "*.png", lambda image: masks / image.name)

    def read_mask(self, index: int, labels: LabelReader) -> np.ndarray:
        mask = super().read_mask(index, labels)
        return np.where(mask == 11, _VOID, mask).astype(mask.dtype)


class ADE20K(FilePairs):
    """ADE20K as ADEChallengeData2016: images/training/*.jpg and annotations/training/*.png, 150 classes.

    Masks hold 1 to 150, and 0 for all else, which is void here; the ids become 0 to 149.
    """

    def __init__(self, root: Path, split: str) -> None:
        name = _one_of(split, train="training", val="validation")
        self.remarks = []
        masks = Path(root) / "annotations" / name
        self.samples = _pairs(Path(root) / "images" / name, "*.jpg", lambda p: masks / f"{p.stem}.png")

    def read_mask(self, index: int, labels: LabelReader) -> np.ndarray:
        mask = super().read_mask(index, labels)
        if mask.ndim == 2 and mask.dtype == np.uint8:
            return mask - np.uint8(1)  # 0 becomes 255
        raise DataError(f"mask {self.samples[index].label}: expected ids of 8 bits, as ADE20K has")


class ISIC(FilePairs):
    """ISIC skin lesions, task 1: the folders of the challenge as they are unpacked; masks are 0/255.

    Args:
        year: 2018 or 2017, whose folders and names differ.
    """

    def __init__(self, root: Path, split: str, *, year: int = 2018) -> None:
        if year not in (2017, 2018):
            raise ValueError(f"year: expected 2017 or 2018, got {year!r}")
        name = _one_of(split, train="Training", val="Validation", test="Test")
        if year == 2018:
            images, masks = f"ISIC2018_Task1-2_{name}_Input", f"ISIC2018_Task1_{name}_GroundTruth"
        else:
            name = "Test_v2" if name == "Test" else name
            images, masks = f"ISIC-2017_{name}_Data", f"ISIC-2017_{name}_Part1_GroundTruth"
        self.remarks = []
        folder = Path(root) / masks
        # 2017 has superpixels (NAME_superpixels.png) beside the images
        self.samples = _pairs(
            Path(root) / images, "ISIC_*.jpg", lambda image: folder / f"{image.stem}_segmentation.png"
        )


# red, green, blue above or below 128 -> class
_LAND_COVER = {
    (0, 1, 1): 0,
    (1, 1, 0): 1,
    (1, 0, 1): 2,
    (0, 1, 0): 3,
    (0, 0, 1): 4,
    (1, 1, 1): 5,
    (0, 0, 0): _VOID,
}


class DeepGlobe(FilePairs):
    """DeepGlobe 2018: train/*_sat.jpg and train/*_mask.png, split by `seed`; only `train` has masks.

    Its masks are not purely 0 and 255: values of 128 and more count as 255, as the organisers say.

    Args:
        task: "roads" (background, road) or "land_cover" (urban, agriculture, rangeland, forest, water,
            barren; unknown is void).
        val_fraction, seed: as in `Folder`.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        task: Literal["roads", "land_cover"] = "roads",
        val_fraction: float = 0.2,
        seed: int = 0,
    ) -> None:
        check_split(split)
        held_out = HeldOut(val_fraction, seed)
        self.task, self.remarks = task, []
        pairs = _pairs(
            Path(root) / "train",
            "*_sat.jpg",
            lambda image: image.with_name(f"{image.name.removesuffix('_sat.jpg')}_mask.png"),
        )
        self.samples = held_out.take(pairs, split)

    def read_mask(self, index: int, labels: LabelReader) -> np.ndarray:
        path = self.samples[index].label
        assert path is not None
        bright = read_mask(path, labels.max_pixels, colors=True) >= 128
        if self.task == "roads":
            return bright[:, :, 0].astype(np.uint8)
        codes = bright @ np.array([4, 2, 1])
        table = np.full(8, 254, np.uint8)
        for (red, green, blue), value in _LAND_COVER.items():
            table[4 * red + 2 * green + blue] = value
        if (codes == 4).any():
            raise DataError(f"mask {path}: holds red, which is no class of DeepGlobe's land cover")
        return table[codes]


class OxfordPet(FilePairs):
    """Oxford-IIIT Pet: images/*.jpg, annotations/trimaps/*.png, lists annotations/trainval.txt and test.txt.

    Trimaps hold 1 (pet), 2 (background) and 3 (border); `configs/_base_/oxford_pet.yml` maps them. `train`
    is trainval.txt and `val` is test.txt, as published.
    """

    def __init__(self, root: Path, split: str, *, train: str = "trainval", val: str = "test") -> None:
        name = _one_of(split, train=train, val=val)
        self.samples, self.remarks = [], []
        base = Path(root)
        path = base / "annotations" / f"{name}.txt"
        for number, line in read_lines(path):
            if line.startswith("#"):
                continue
            words = line.split()
            if len(words) != 4:
                raise DataError(f"{path}:{number}: {line[:80]!r}: expected NAME CLASS SPECIES BREED")
            image, mask = base / f"images/{words[0]}.jpg", base / f"annotations/trimaps/{words[0]}.png"
            self.samples.append(Sample(words[0], image, mask))

    @staticmethod
    def download(root: Path) -> None:
        """Downloads images and annotations (0.8 GB, CC BY-SA 4.0) below `root` unless they are there."""
        from paddlefcn.bars import byte_bar
        from paddlefcn.data.download import download
        from paddlefcn.data.unpack import unpack

        for name, checksum in _PET_CHECKSUMS.items():
            if not (Path(root) / name).is_dir():
                with byte_bar(f"Oxford-IIIT Pet {name}") as progress:
                    target = Path(root) / f"{name}.tar.gz"
                    unpack(
                        download(f"{_PET}/{name}.tar.gz", target, checksum=checksum, progress=progress), root
                    )


_PET = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
# as torchvision publishes them
_PET_CHECKSUMS = {
    "images": "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
    "annotations": "md5:95a8c909bbe2e81eed6a22bccdf3f68f",
}

# ids of the 182 that no picture has: things that COCO announced and left out
_NOT_IN_COCO = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)


class COCOStuff(FilePairs):
    """COCO-Stuff 164k: SPLIT2017/*.jpg and stuffthingmaps_trainval2017/SPLIT2017/*.png, 171 classes.

    The maps hold 0 to 181 with gaps, and 255 where nothing is labelled; the ids are closed up to 0 to 170:
    80 things, then 91 stuff classes.

    Args:
        images, maps: folders below `root`.
    """

    def __init__(
        self, root: Path, split: str, *, images: str = ".", maps: str = "stuffthingmaps_trainval2017"
    ) -> None:
        name = _one_of(split, train="train2017", val="val2017")
        self.remarks = []
        masks = Path(root) / maps / name
        self.samples = _pairs(Path(root) / images / name, "*.jpg", lambda p: masks / f"{p.stem}.png")

    def read_mask(self, index: int, labels: LabelReader) -> np.ndarray:
        mask = super().read_mask(index, labels)
        kept = [value for value in range(182) if value not in _NOT_IN_COCO]
        table = np.full(256, 254, np.uint8)
        table[kept], table[_VOID] = np.arange(len(kept)), _VOID
        if mask.ndim != 2 or mask.max(initial=0) > 255 or (table[mask] == 254).any():
            raise DataError(f"mask {self.samples[index].label}: holds ids that COCO-Stuff does not have")
        return table[mask]
