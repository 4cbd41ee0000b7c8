"""Data: reading, data sets, transforms, loading, checks. Nothing in here imports paddle.

A new data set or transform is a class in its module and a line in one of these tables.
"""

from __future__ import annotations

from typing import Any

from paddlefcn.data import transforms
from paddlefcn.data.datasets import VOC, Folder, ListFile, Scenes, SegmentationDataset, Volumes
from paddlefcn.data.images import Resize
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.shapes import Shapes

DATASETS: dict[str, Any] = {
    "VOC": VOC,
    "ListFile": ListFile,
    "Folder": Folder,
    "Scenes": Scenes,
    "Volumes": Volumes,
    "Shapes": Shapes,
}

TRANSFORMS: dict[str, Any] = {
    "Resize": Resize,
    "RandomScale": transforms.RandomScale,
    "RandomCrop": transforms.RandomCrop,
    "RandomFlip": transforms.RandomFlip,
    "RandomRotation": transforms.RandomRotation,
    "RandomRotate90": transforms.RandomRotate90,
    "RandomShear": transforms.RandomShear,
    "RandomPerspective": transforms.RandomPerspective,
    "RandomWarp": transforms.RandomWarp,
    "ElasticDeform": transforms.ElasticDeform,
    "ColorJitter": transforms.ColorJitter,
    "RandomGamma": transforms.RandomGamma,
    "RandomBlur": transforms.RandomBlur,
    "RandomNoise": transforms.RandomNoise,
}

__all__ = [
    "DATASETS",
    "TRANSFORMS",
    "VOC",
    "Folder",
    "LabelReader",
    "ListFile",
    "Scenes",
    "SegmentationDataset",
    "Shapes",
    "Volumes",
]
