"""Makes the goldens in networks/: what torchvision, timm and PaddleSeg themselves compute.

    # in an environment with torch==2.13.0, torchvision, timm==1.0.31 and segmentation_models_pytorch==0.6.0:
    python tests/goldens/make_network_goldens.py torch
    # in an environment with paddlepaddle==3.3.1 and paddleseg==2.8.0 (see PaddleSeg's requirements):
    python tests/goldens/make_network_goldens.py paddleseg

The libraries' own classes run, in float64. Wide networks are made narrow by dividing the channels of every
layer that they build; weights are drawn by name (synthetic.py). Each ``networks/NAME.npz`` holds

    config       JSON: library, network, sizes, and the shapes of its tensors by the library's names
    logits/I     float32, eval mode, at every third pixel, of image I (a backbone: its maps, logits/I/MAP)
    train/K      output K of the last image in training mode, BatchNorm with its running statistics
    gradient     JSON: of the mean of output * noise, summed over outputs: by name [norm, product with weight]
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from synthetic import STEP, fill, image, noise  # noqa: E402

ODD = [(1, 1), (37, 45)]
NARROW: dict[str, int] = {"by": 1}


def narrowed(value: int) -> int:
    """A number of channels divided; small ones (the image's, the classes') stay."""
    by = NARROW["by"]
    return value // by if value >= 16 else value


def kept(array: Any) -> np.ndarray:
    return np.asarray(array)[..., ::STEP, ::STEP].astype("float32")


# --- torch --------------------------------------------------------------------------------------


def patch_torch() -> Any:
    import torch
    from torch import nn

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    sys.modules["torchvision._meta_registrations"] = types.ModuleType("_meta_registrations")
    convolution, norm = nn.Conv2d.__init__, nn.BatchNorm2d.__init__

    def make_convolution(self: Any, before: int, after: int, *rest: Any, **named: Any) -> None:
        if named.get("groups", 1) > 1:
            named["groups"] = narrowed(named["groups"])
        convolution(self, narrowed(before), narrowed(after), *rest, **named)

    def make_norm(self: Any, channels: int, *rest: Any, **named: Any) -> None:
        norm(self, narrowed(channels), *rest, **named)

    nn.Conv2d.__init__, nn.BatchNorm2d.__init__ = make_convolution, make_norm
    return library


def torch_cases() -> dict[str, tuple[int, Any, list[str], list[tuple[int, int]]]]:
    """By name: divisor, maker, modules whose outputs are maps (none: a whole model), sizes."""
    import timm
    import torchvision.models as tv
    from torchvision.models import segmentation as seg

    stages = ["layer1", "layer2", "layer3", "layer4"]
    whole = {"weights": None, "weights_backbone": None, "num_classes": 5}
    cases: dict[str, Any] = {
        "resnet18": (16, lambda: tv.resnet18(), stages, ODD),
        "resnet34": (16, lambda: tv.resnet34(), stages, ODD),
        "resnet50": (16, lambda: tv.resnet50(), stages, ODD),
        "resnet101": (16, lambda: tv.resnet101(), stages, ODD),
        "resnet50_output_stride_8": (
            16,
            lambda: tv.resnet50(replace_stride_with_dilation=[False, True, True]),
            stages,
            ODD,
        ),
        "mobilenet_v2": (1, lambda: tv.mobilenet_v2(), ["features.6", "features.18"], ODD),
        "mobilenet_v2_half": (
            1,
            lambda: tv.mobilenet_v2(width_mult=0.5),
            ["features.6", "features.18"],
            ODD,
        ),
        "mobilenet_v3_small": (1, lambda: tv.mobilenet_v3_small(), ["features.4", "features.12"], ODD),
        "mobilenet_v3_large": (1, lambda: tv.mobilenet_v3_large(), ["features.6", "features.16"], ODD),
    }
    for depth in (18, 34, 50, 101):
        cases[f"resnet{depth}d"] = (
            16,
            lambda depth=depth: timm.create_model(f"resnet{depth}d", num_classes=0),
            stages,
            ODD,
        )
    # timm averages a dilated ResNet-D's shortcuts, PaddleSeg does not, and ours neither: no golden of that
    cases["resnet34_output_stride_16"] = (
        16,
        lambda: timm.create_model("resnet34", num_classes=0, output_stride=16),
        stages,
        ODD,
    )
    for stride in (32, 16, 8):
        cases[f"xception65_output_stride_{stride}"] = (
            8,
            lambda stride=stride: timm.create_model("xception65", num_classes=0, output_stride=stride),
            ["blocks.0", "blocks.1.stack.conv2", "blocks.1", "blocks.18", "blocks.20"],
            ODD,
        )
    for name in ("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"):
        cases[name] = (16, lambda name=name: getattr(seg, name)(aux_loss=True, **whole), [], ODD)
    cases["deeplabv3_mobilenet_v3_large"] = (
        1,
        lambda: seg.deeplabv3_mobilenet_v3_large(aux_loss=True, **whole),
        [],
        ODD,
    )
    cases["lraspp_mobilenet_v3_large"] = (1, lambda: seg.lraspp_mobilenet_v3_large(**whole), [], ODD)
    for name, timm_name in {
        "timm_mobilenet_v2": "mobilenetv2_100",
        "timm_mobilenet_v2_half": "mobilenetv2_050",
        "timm_mobilenet_v3_small": "mobilenetv3_small_100",
        "timm_mobilenet_v3_large": "mobilenetv3_large_100",
    }.items():
        last = "bn2" if "v2" in name else "blocks.5" if "small" in name else "blocks.6"
        maker = lambda timm_name=timm_name: timm.create_model(timm_name, num_classes=0)  # noqa: E731
        cases[name] = (1, maker, ["blocks.2", last], ODD)
    import segmentation_models_pytorch as smp

    for name, made in {
        "smp_unet": smp.Unet,
        "smp_unetplusplus": smp.UnetPlusPlus,
        "smp_pspnet": smp.PSPNet,
        "smp_deeplabv3plus": smp.DeepLabV3Plus,
    }.items():
        for encoder in ("resnet18", "resnet50"):
            cases[f"{name}_{encoder}"] = (
                16,
                lambda made=made, encoder=encoder: made(encoder, encoder_weights=None, classes=5),
                [],
                [(32, 96), (64, 32)],
            )
    return cases


def torch_golden(name: str, maker: Any, maps: list[str], sizes: list[tuple[int, int]]) -> dict[str, Any]:
    import torch
    from torch import nn

    model = maker()
    if hasattr(model, "fc"):
        model.fc = nn.Identity()  # the classifier is not narrowed
    state = {
        key: torch.tensor(fill(key, tuple(tensor.shape)))
        for key, tensor in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    model.load_state_dict(state, strict=False)
    model = model.double().eval()
    shapes = {key: list(tensor.shape) for key, tensor in state.items()}
    out: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for place in maps:
        model.get_submodule(place).register_forward_hook(
            lambda module, given, result, place=place: found.__setitem__(place, result.clone())
        )

    def run(x: Any) -> list[Any]:
        if maps:
            model.forward_features(x) if hasattr(model, "forward_features") else model(x)
            return [found[place] for place in maps]
        result = model(x)
        if isinstance(result, torch.Tensor):
            return [result]
        return [result[key] for key in ("out", "aux") if key in result]

    for index, size in enumerate(sizes):
        x = torch.tensor(image(size)).double()
        with torch.no_grad():
            results = run(x)
        for number, result in enumerate(results if maps else results[:1]):
            out[f"logits/{index}/{number}"] = kept(result.numpy())
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    results = run(x)
    loss = sum(
        (result * torch.tensor(noise(k, tuple(result.shape)))).mean() for k, result in enumerate(results)
    )
    loss.backward()
    for number, result in enumerate(results):
        out[f"train/{number}"] = kept(result.detach().numpy())
    gradient = {
        key: [float(p.grad.norm()), float((p.grad * p).sum())]
        for key, p in model.named_parameters()
        if p.grad is not None
    }
    library = name.partition("_")[0] if name.startswith(("timm_", "smp_")) else "torchvision"
    config = {"library": library, "network": name, "maps": maps, "sizes": sizes, "shapes": shapes}
    return {"config": json.dumps(config), "gradient": json.dumps(gradient), **out}


# --- PaddleSeg ------------------------------------------------------------------------------------


def patch_paddle() -> None:
    from paddle import nn

    convolution, norm = nn.Conv2D.__init__, nn.BatchNorm2D.__init__
    transposed = nn.Conv2DTranspose.__init__

    def make_convolution(self: Any, in_channels: int, out_channels: int, *rest: Any, **named: Any) -> None:
        if named.get("groups", 1) > 1:
            named["groups"] = narrowed(named["groups"])
        convolution(self, narrowed(in_channels), narrowed(out_channels), *rest, **named)

    def make_transposed(self: Any, in_channels: int, out_channels: int, *rest: Any, **named: Any) -> None:
        transposed(self, narrowed(in_channels), narrowed(out_channels), *rest, **named)

    def make_norm(self: Any, num_features: int, *rest: Any, **named: Any) -> None:
        norm(self, narrowed(num_features), *rest, **named)

    nn.Conv2D.__init__, nn.BatchNorm2D.__init__ = make_convolution, make_norm
    nn.Conv2DTranspose.__init__ = make_transposed


def paddleseg_cases() -> dict[str, tuple[int, Any, list[str], list[tuple[int, int]]]]:
    from paddleseg.models import DeepLabV3, DeepLabV3P, PSPNet, SegNet, UNet, UNetPlusPlus
    from paddleseg.models.backbones import ResNet50_vd, ResNet101_vd, Xception65_deeplab

    def on(model: Any, backbone: Any, **named: Any) -> Any:
        return lambda: model(num_classes=5, backbone=backbone(), **named)

    sizes = [(37, 45), (64, 33)]
    return {
        "paddleseg_unet": (16, lambda: UNet(5), [], [(37, 45), (64, 33)]),
        "paddleseg_unet_align_corners": (16, lambda: UNet(5, align_corners=True), [], sizes),
        "paddleseg_unetplusplus": (8, lambda: UNetPlusPlus(5), [], [(32, 48), (16, 64)]),
        "paddleseg_unetplusplus_deconv": (
            8,
            lambda: UNetPlusPlus(5, use_deconv=True),
            [],
            [(32, 48), (16, 64)],
        ),
        "paddleseg_segnet": (16, lambda: SegNet(5), [], [(32, 96), (64, 32)]),
        "paddleseg_pspnet_resnet50": (16, on(PSPNet, ResNet50_vd), [], sizes),
        "paddleseg_pspnet_resnet101": (16, on(PSPNet, ResNet101_vd), [], sizes),
        "paddleseg_deeplabv3_resnet50": (16, on(DeepLabV3, ResNet50_vd), [], sizes),
        "paddleseg_deeplabv3_resnet101": (16, on(DeepLabV3, ResNet101_vd), [], sizes),
        "paddleseg_deeplabv3p_resnet50": (16, on(DeepLabV3P, ResNet50_vd), [], sizes),
        "paddleseg_deeplabv3p_resnet101": (16, on(DeepLabV3P, ResNet101_vd), [], sizes),
        "paddleseg_deeplabv3p_xception65": (
            8,
            on(DeepLabV3P, Xception65_deeplab, backbone_indices=(0, 1)),
            [],
            sizes,
        ),
    }


def paddleseg_golden(name: str, maker: Any, maps: list[str], sizes: list[tuple[int, int]]) -> dict[str, Any]:
    import paddle
    from paddle import nn

    model = maker()
    model.eval()
    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    if "cls.weight" in shapes:  # U-Net's score has a second name
        del shapes["conv.weight"], shapes["conv.bias"]
    model.set_state_dict({key: fill(key, tuple(shape)) for key, shape in shapes.items()})
    model.to(dtype="float64")
    out: dict[str, Any] = {}
    for index, size in enumerate(sizes):
        x = paddle.to_tensor(image(size).astype("float64"))
        out[f"logits/{index}/0"] = kept(model(x)[0].numpy())
    model.train()
    for layer in model.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer.eval()
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    results = model(x)
    loss = sum(
        (result * paddle.to_tensor(noise(k, tuple(result.shape)).astype("float64"))).mean()
        for k, result in enumerate(results)
    )
    loss.backward()
    for number, result in enumerate(results):
        out[f"train/{number}"] = kept(result.numpy())
    gradient = {
        key: [float(p.grad.norm()), float((p.grad * p).sum())]
        for key, p in model.named_parameters()
        if not p.stop_gradient and p.grad is not None
    }
    config = {"library": "paddleseg", "network": name, "maps": maps, "sizes": sizes, "shapes": shapes}
    return {"config": json.dumps(config), "gradient": json.dumps(gradient), **out}


def main() -> None:
    torch_side = sys.argv[1] == "torch"
    keep = patch_torch() if torch_side else patch_paddle()
    cases = torch_cases() if torch_side else paddleseg_cases()
    for name, (divisor, maker, maps, sizes) in cases.items():
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        NARROW["by"] = divisor
        arrays = (torch_golden if torch_side else paddleseg_golden)(name, maker, maps, sizes)
        path = HERE / "networks" / f"{name}.npz"
        np.savez_compressed(path, **arrays)
        print(f"{path.name:<44}{path.stat().st_size / 1024:8.1f} KB", flush=True)
    del keep


if __name__ == "__main__":
    main()
