"""Augmentation: (image HxWxC, label HxW, rng) -> (image, label).

Images are uint8, uint16 or float32 with any number of channels, and keep dtype and range. All chance
comes from `rng`, so that a sample is the same whichever worker makes it. `fill` (the value that
normalises to 0) and `ignore_index` are what stands outside the picture; the config provides them.
"""

from __future__ import annotations

from paddlefcn.data.transforms.albumentations_file import Albumentations
from paddlefcn.data.transforms.base import Compose, Transform
from paddlefcn.data.transforms.bending import ElasticDeform, GridDistortion
from paddlefcn.data.transforms.color import CLAHE, ChannelDrop, ColorJitter, RandomGamma
from paddlefcn.data.transforms.crops import ClassCrop, RandomCrop
from paddlefcn.data.transforms.erasing import CutOut
from paddlefcn.data.transforms.fused import RandomWarp
from paddlefcn.data.transforms.geometry import RandomFlip, RandomRotate90, RandomScale
from paddlefcn.data.transforms.mixing import ClassMix, CopyPaste, CutMix
from paddlefcn.data.transforms.quality import JPEGArtefacts, MotionBlur, RandomBlur, RandomNoise
from paddlefcn.data.transforms.warps import RandomPerspective, RandomRotation, RandomShear

__all__ = [
    "CLAHE",
    "Albumentations",
    "ChannelDrop",
    "ClassCrop",
    "ClassMix",
    "ColorJitter",
    "Compose",
    "CopyPaste",
    "CutMix",
    "CutOut",
    "ElasticDeform",
    "GridDistortion",
    "JPEGArtefacts",
    "MotionBlur",
    "RandomBlur",
    "RandomCrop",
    "RandomFlip",
    "RandomGamma",
    "RandomNoise",
    "RandomPerspective",
    "RandomRotate90",
    "RandomRotation",
    "RandomScale",
    "RandomShear",
    "RandomWarp",
    "Transform",
]
