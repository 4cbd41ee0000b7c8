"""BraTS: brain tumours in four MR modalities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddlefcn.data.datasets.base import Sample
from paddlefcn.data.datasets.volumes import Slices
from paddlefcn.data.splits import HeldOut, check_split
from paddlefcn.errors import DataError

_MASK_ENDS = ("_seg.nii", "_seg.nii.gz", "-seg.nii", "-seg.nii.gz")
# what BraTS 2023 calls the modalities of the years before
_NAMES_2023 = {"flair": "t2f", "t1": "t1n", "t1ce": "t1c", "t2": "t2w"}


class BraTS(Slices):
    """BraTS: a folder CASE with a file for each modality and the mask, CASE_seg.nii.gz.

    2020 and 2021 have CASE_flair, CASE_t1, CASE_t1ce and CASE_t2; 2023 has CASE-t2f, CASE-t1n, CASE-t1c,
    CASE-t2w and CASE-seg, which are found by the older names too. Every slice is a sample of four channels,
    in the order of `modalities`; cases are split by `seed`, so that no patient stands on both sides.
    Enhancing tumour is 4 in the masks, and 3 in those of 2023: `configs/_base_/brats.yml` maps both.

    Args:
        modalities: what is read as channels.
        axis: along which the volumes are cut; 2 is axial.
        val_fraction, seed, folds, fold: as in `Folder`, of cases.

    Raises:
        DataError: no case, or a case without one of its files.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        modalities: Sequence[str] = ("flair", "t1", "t1ce", "t2"),
        axis: int = 2,
        val_fraction: float = 0.2,
        seed: int = 0,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        check_split(split)
        held_out = HeldOut(val_fraction, seed, folds=folds, fold=fold)
        base = Path(root)
        masks = sorted(path for path in base.rglob("*seg.nii*") if path.name.endswith(_MASK_ENDS))
        if not masks:
            raise DataError(
                f"{base}: no CASE/CASE_seg.nii.gz or CASE-seg.nii.gz in it; set data.root to the unpacked "
                f"data set"
            )
        samples = [Sample(path.parent.relative_to(base).as_posix(), None, path) for path in masks]
        cases = []
        for sample in held_out.take(samples, split):
            assert sample.label is not None
            images = [_file(sample.label, modality) for modality in modalities]
            cases.append((sample.name, images, sample.label))
        super().__init__(cases, axis)


def _file(mask: Path, modality: str) -> Path:
    """The file of a modality beside a mask; packed or not, whichever is there."""
    stem = mask.name[: mask.name.rindex("seg.nii")]  # with the hyphen of 2023, or the underscore
    name = _NAMES_2023.get(modality, modality) if stem.endswith("-") else modality
    usual = [mask.with_name(f"{stem}{name}.nii{end}") for end in (".gz", "")]
    return next((path for path in usual if path.exists()), usual[0])
