"""Data: reading, data sets, transforms, loading, checks. Nothing in here imports paddle.

A new data set or transform is a class in its module and a line in one of these tables.
"""

from __future__ import annotations

from typing import Any

from paddlefcn.data import transforms
from paddlefcn.data.annotations import COCO, CVAT, CVATMasks, LabelMe, Supervisely, YOLOSeg
from paddlefcn.data.datasets import VOC, Folder, ListFile, Scenes, SegmentationDataset, Volumes
from paddlefcn.data.datasets.brats import BraTS
from paddlefcn.data.datasets.paired import ADE20K, ISIC, CamVid, Cityscapes, COCOStuff, DeepGlobe, OxfordPet
from paddlefcn.data.datasets.voc_sbd import VOCSBD
from paddlefcn.data.images import Resize
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.shapes import Shapes

DATASETS: dict[str, Any] = {
    "VOC": VOC,
    "ListFile": ListFile,
    "Folder": Folder,
    "Scenes": Scenes,
    "Volumes": Volumes,
    "LabelMe": LabelMe,
    "COCO": COCO,
    "CVAT": CVAT,
    "CVATMasks": CVATMasks,
    "YOLOSeg": YOLOSeg,
    "Supervisely": Supervisely,
    "VOCSBD": VOCSBD,
    "Cityscapes": Cityscapes,
    "CamVid": CamVid,
    "ADE20K": ADE20K,
    "ISIC": ISIC,
    "DeepGlobe": DeepGlobe,
    "BraTS": BraTS,
    "OxfordPet": OxfordPet,
    "COCOStuff": COCOStuff,
    "Shapes": Shapes,
}

TRANSFORMS: dict[str, Any] = {
    "Resize": Resize,
    "RandomScale": transforms.RandomScale,
    "RandomCrop": transforms.RandomCrop,
    "ClassCrop": transforms.ClassCrop,
    "RandomFlip": transforms.RandomFlip,
    "RandomRotation": transforms.RandomRotation,
    "RandomRotate90": transforms.RandomRotate90,
    "RandomShear": transforms.RandomShear,
    "RandomPerspective": transforms.RandomPerspective,
    "RandomWarp": transforms.RandomWarp,
    "ElasticDeform": transforms.ElasticDeform,
    "GridDistortion": transforms.GridDistortion,
    "ColorJitter": transforms.ColorJitter,
    "RandomGamma": transforms.RandomGamma,
    "CLAHE": transforms.CLAHE,
    "ChannelDrop": transforms.ChannelDrop,
    "RandomBlur": transforms.RandomBlur,
    "MotionBlur": transforms.MotionBlur,
    "RandomNoise": transforms.RandomNoise,
    "JPEGArtefacts": transforms.JPEGArtefacts,
    "CutOut": transforms.CutOut,
    "CutMix": transforms.CutMix,
    "ClassMix": transforms.ClassMix,
    "CopyPaste": transforms.CopyPaste,
    "Albumentations": transforms.Albumentations,
}

__all__ = [
    "COCO",
    "CVAT",
    "DATASETS",
    "TRANSFORMS",
    "VOC",
    "CVATMasks",
    "Folder",
    "LabelMe",
    "LabelReader",
    "ListFile",
    "Scenes",
    "SegmentationDataset",
    "Shapes",
    "Supervisely",
    "Volumes",
    "YOLOSeg",
]
