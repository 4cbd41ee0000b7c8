"""Data sets: where the pairs of image and mask are. Reading and checking them is the same for all."""

from __future__ import annotations

from paddlefcn.data.datasets.base import FilePairs, Sample, SegmentationDataset, Source, check_sizes
from paddlefcn.data.datasets.folder import Folder
from paddlefcn.data.datasets.lists import ListFile, read_lines
from paddlefcn.data.datasets.scenes import Scenes
from paddlefcn.data.datasets.voc import VOC
from paddlefcn.data.datasets.volumes import Volumes
from paddlefcn.data.labels import LabelReader

__all__ = [
    "VOC",
    "FilePairs",
    "Folder",
    "LabelReader",
    "ListFile",
    "Sample",
    "Scenes",
    "SegmentationDataset",
    "Source",
    "Volumes",
    "check_sizes",
    "read_lines",
]
