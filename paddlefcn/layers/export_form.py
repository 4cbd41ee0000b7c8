"""Layers that run in another form once they are exported."""

from __future__ import annotations

from paddle import nn


def use_export_form(model: nn.Layer, form: str | None = "paddle") -> None:
    """Switch every layer of ``model`` that has an export form to it, in place.

    A layer has one if it has the method ``set_export_form(form)``. Inference engines fuse and thread
    these forms better, and oneDNN crashes on exported interpolation (Paddle issues 77340, 79749).
    The numbers stay the same.

    Args:
        form: "paddle" or "onnx", for programs that Paddle runs or that become ONNX; None switches back.
    """
    for layer in model.sublayers(include_self=True):
        if hasattr(layer, "set_export_form"):
            layer.set_export_form(form)
