"""BraTS: brain tumours in four MR modalities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddlefcn.data.datasets.base import Sample
from paddlefcn.data.datasets.volumes import Slices
from paddlefcn.data.splits import HeldOut, check_split
from paddlefcn.errors import DataError


class BraTS(Slices):
    """BraTS 2020 and 2021: a folder CASE with CASE_flair.nii.gz, CASE_t1, CASE_t1ce, CASE_t2 and CASE_seg.

    Every slice is a sample of four channels, in the order of `modalities`; cases are split by `seed`, so
    that no patient stands on both sides. Masks hold 0, 1, 2 and 4: `configs/_base_/brats.yml` maps them.

    Args:
        modalities: the parts of the file names that are read as channels.
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
        masks = sorted(path for path in base.rglob("*_seg.nii*") if path.name.endswith((".nii", ".nii.gz")))
        if not masks:
            raise DataError(f"{base}: no CASE/CASE_seg.nii.gz in it; set data.root to the unpacked data set")
        samples = [Sample(path.parent.relative_to(base).as_posix(), None, path) for path in masks]
        cases = []
        for sample in held_out.take(samples, split):
            assert sample.label is not None
            images = [_file(sample.label, modality) for modality in modalities]
            cases.append((sample.name, images, sample.label))
        super().__init__(cases, axis)


def _file(mask: Path, modality: str) -> Path:
    """The file of a modality beside a mask; packed or not, whichever is there."""
    stem = mask.name.split("_seg.nii")[0]
    usual = [mask.with_name(f"{stem}_{modality}.nii{end}") for end in (".gz", "")]
    return next((path for path in usual if path.exists()), usual[0])
