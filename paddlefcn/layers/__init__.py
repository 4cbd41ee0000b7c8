"""Layers that every network here is made of: convolution blocks, upsampling, crops."""

from __future__ import annotations

from paddlefcn.layers.blocks import (
    BATCH_NORMS,
    NORMS,
    CeilMaxPool,
    ConvBNReLU,
    Join,
    SeparableConvBNReLU,
    convolution,
)
from paddlefcn.layers.export_form import use_export_form
from paddlefcn.layers.resizing import AdaptiveMean, Resize, WindowMean, add_resized
from paddlefcn.layers.sizes import crop_like, spatial_size
from paddlefcn.layers.unpooling import IndexedMaxPool, Unpool
from paddlefcn.layers.upsampling import UPSAMPLE_MODES, Upsample, bilinear_kernel

__all__ = [
    "BATCH_NORMS",
    "NORMS",
    "UPSAMPLE_MODES",
    "AdaptiveMean",
    "CeilMaxPool",
    "ConvBNReLU",
    "IndexedMaxPool",
    "Join",
    "Resize",
    "SeparableConvBNReLU",
    "Unpool",
    "Upsample",
    "WindowMean",
    "add_resized",
    "bilinear_kernel",
    "convolution",
    "crop_like",
    "spatial_size",
    "use_export_form",
]
