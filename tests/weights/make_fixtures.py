"""Makes tests/weights/fixtures: small files of each foreign format, with what their library computes.

    python3 -m venv torch-env && torch-env/bin/pip install torch timm safetensors protobuf numpy pyyaml
    torch-env/bin/python tests/weights/make_fixtures.py

torch 2.13.0, timm 1.0.31, protobuf 7.36.2 made the committed files. The networks are theirs in all
but width. The tests read only the files: they need neither torch nor timm.
"""

from __future__ import annotations

import copyreg
import importlib.metadata
import importlib.util
import pickle
import struct
import sys
import types
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent / "fixtures"
ARCHS = {"vgg11": [1, 1, 2, 2, 2], "vgg13": [2] * 5, "vgg16": [2, 2, 3, 3, 3], "vgg19": [2, 2, 4, 4, 4]}
WIDTHS = [2, 4, 6, 8, 8]
FC, CLASSES = 12, 3
SIZES = [(37, 45), (64, 33)]


def image(height, width):
    """The input that the tests make again: legacy numpy generators never change their numbers."""
    values = np.random.RandomState(height * 1000 + width).uniform(-1, 1, (1, 3, height, width))
    return torch.from_numpy(values.astype("float32"))


def randomize(net, seed):
    generator = torch.Generator().manual_seed(seed)

    def normal(shape, std):
        return torch.randn(shape, generator=generator) * std

    for name, tensor in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            value = 0.5 + torch.rand(tensor.shape, generator=generator)
        elif tensor.dim() == 1:
            value = normal(tensor.shape, 0.1) + (1.0 if name.endswith("weight") else 0.0)
        elif "upscore" in name:
            # not diagonal, so that exchanged axes would show
            value = tensor + normal(tensor.shape, 0.02)
        else:
            value = normal(tensor.shape, (2 / tensor[0].numel()) ** 0.5)
        tensor.copy_(value)
    return net.eval()


# --- torchvision ---------------------------------------------------------------------------------------


def row(arch):
    return [v for count, width in zip(arch, WIDTHS) for v in [width] * count + ["M"]]


class TorchvisionVGG(nn.Module):
    """torchvision.models.VGG, name for name, in a narrow width."""

    def __init__(self, arch, batch_norm):
        super().__init__()
        layers, channels = [], 3
        for v in row(arch):
            if v == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers.append(nn.Conv2d(channels, v, 3, padding=1))
            layers += [nn.BatchNorm2d(v)] if batch_norm else []
            layers.append(nn.ReLU())
            channels = v
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, FC), nn.ReLU(), nn.Dropout(),
            nn.Linear(FC, FC), nn.ReLU(), nn.Dropout(), nn.Linear(FC, CLASSES),
        )  # fmt: skip

    def parts(self, x):
        pool5 = self.features(x)
        fc7 = self.classifier[:5](torch.flatten(self.avgpool(pool5), 1))
        return pool5, fc7, self.classifier[5:](fc7)


class OldPickler(pickle.Pickler):
    """Tensors and parameters as torch 0.1.11 pickled them: torchvision's first files are so."""

    def persistent_id(self, obj):
        if isinstance(obj, torch.storage.TypedStorage):
            return ("storage", torch.FloatStorage, str(obj._cdata), "cpu", obj._size(), None)
        return None

    def reducer_override(self, obj):
        if isinstance(obj, nn.Parameter):
            return copyreg.__newobj__, (nn.Parameter,), (obj.data, True, None)
        if isinstance(obj, torch.Tensor):
            self.keep.append(obj._typed_storage())
            return torch._utils._rebuild_tensor, (self.keep[-1], 0, tuple(obj.shape), obj.stride())
        return NotImplemented


def save_old(state, path):
    with path.open("wb") as file:
        for head in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "type_sizes": {"int": 4}}):
            pickle.dump(head, file, protocol=2)
        pickler = OldPickler(file, protocol=2)
        pickler.keep = []
        pickler.dump(state)
        pickle.dump([str(storage._cdata) for storage in pickler.keep], file, protocol=2)
        for storage in pickler.keep:
            values = np.array(list(storage), "<f4")
            file.write(struct.pack("<q", values.size) + values.tobytes())


def torchvision():
    kinds = [
        ("vgg11_bn", True, "legacy"),
        ("vgg13", False, "safetensors"),
        ("vgg16", False, "zip"),
        ("vgg19_bn", True, "zip"),
        ("vgg11", False, "old"),
    ]
    x, results = image(224, 224), {}
    for seed, (name, normed, form) in enumerate(kinds):
        net = randomize(TorchvisionVGG(ARCHS[name.split("_")[0]], normed), seed)
        path = HERE / f"torchvision_{name}"
        if form == "safetensors":
            save_file(net.state_dict(), path.with_suffix(".safetensors"))
        elif form == "old":
            parameters = dict(net.named_parameters())
            save_old({key: parameters[key] for key in net.state_dict()}, path.with_suffix(".pth"))
        else:
            zipped = form == "zip"
            torch.save(net.state_dict(), path.with_suffix(".pth"), _use_new_zipfile_serialization=zipped)
        results.update(zip((f"{name}.pool5", f"{name}.fc7", f"{name}.logits"), net.parts(x)))
    return "torchvision", results


# --- timm ----------------------------------------------------------------------------------------------


def import_timm():
    """timm's vgg.py alone: the rest of the package wants torchvision, which VGG does not use."""
    for name in ("torchvision", "torchvision.ops", "torchvision.ops.misc"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = nn.BatchNorm2d
    root = importlib.util.find_spec("timm").submodule_search_locations[0]
    for name in ("timm", "timm.data", "timm.models"):  # packages without their __init__
        module = sys.modules[name] = types.ModuleType(name)
        module.__path__ = [str(Path(root, *name.split(".")[1:]))]
    sys.modules["timm"].__version__ = importlib.metadata.version("timm")
    constants = importlib.import_module("timm.data.constants")
    vars(sys.modules["timm.data"]).update(vars(constants))
    return importlib.import_module("timm.models.vgg"), importlib.import_module("timm.layers")


def timm_vgg():
    vgg, layers = import_timm()
    x, results = image(224, 224), {}
    for seed, (name, norm) in enumerate([("vgg16", None), ("vgg11_bn", nn.BatchNorm2d)], start=10):
        net = vgg.VGG(row(ARCHS[name.split("_")[0]]), num_classes=CLASSES, norm_layer=norm)
        net.pre_logits = vgg.ConvMlp(WIDTHS[-1], FC, 7)  # 4096 cannot be asked to be less
        net.head = layers.ClassifierHead(FC, CLASSES)
        randomize(net, seed)
        if norm:
            save_file(net.state_dict(), HERE / f"timm_{name}.safetensors")
        else:
            torch.save(net.state_dict(), HERE / f"timm_{name}.pth")
        results[f"{name}.pool5"] = net.forward_features(x)
        results[f"{name}.fc7"] = net.pre_logits(results[f"{name}.pool5"])[:, :, 0, 0]
        results[f"{name}.logits"] = net(x)
    return "timm", results


# --- pytorch-fcn and the FCN authors' networks ---------------------------------------------------------


def bilinear(kernel):
    factor = (kernel + 1) // 2
    ramp = 1 - torch.abs(torch.arange(kernel) - (kernel - 1) / 2) / factor
    weight = torch.zeros(CLASSES, CLASSES, kernel, kernel)
    weight[range(CLASSES), range(CLASSES)] = ramp[:, None] * ramp[None]
    return weight


def up(kernel, stride):
    layer = nn.ConvTranspose2d(CLASSES, CLASSES, kernel, stride=stride, bias=False)
    layer.weight.data.copy_(bilinear(kernel))
    return layer


def window(x, like, offset):
    return x[:, :, offset : offset + like.shape[2], offset : offset + like.shape[3]]


class PublishedFCN(nn.Module):
    """FCN-32s, 16s and 8s with the names, paddings and crops of pytorch-fcn (and of the authors)."""

    def __init__(self, stride, scales=(1.0, 1.0)):
        super().__init__()
        self.stride, self.scales = stride, scales
        channels = 3
        for stage, (count, width) in enumerate(zip(ARCHS["vgg16"], WIDTHS), start=1):
            for number in range(1, count + 1):
                first = stage == number == 1
                layer = nn.Conv2d(channels, width, 3, padding=100 if first else 1)
                setattr(self, f"conv{stage}_{number}", layer)
                channels = width
        self.fc6, self.fc7 = nn.Conv2d(channels, FC, 7), nn.Conv2d(FC, FC, 1)
        self.score_fr = nn.Conv2d(FC, CLASSES, 1)
        if stride == 32:
            self.upscore = up(64, 32)
        if stride <= 16:
            self.score_pool4, self.upscore2 = nn.Conv2d(WIDTHS[3], CLASSES, 1), up(4, 2)
        if stride == 16:
            self.upscore16 = up(32, 16)
        if stride == 8:
            self.score_pool3 = nn.Conv2d(WIDTHS[2], CLASSES, 1)
            self.upscore_pool4, self.upscore8 = up(4, 2), up(16, 8)

    def forward(self, x):
        pools, h = [], x
        for stage, count in enumerate(ARCHS["vgg16"], start=1):
            for number in range(1, count + 1):
                h = F.relu(getattr(self, f"conv{stage}_{number}")(h))
            h = F.max_pool2d(h, 2, 2, ceil_mode=True)
            pools.append(h)
        h = self.score_fr(F.relu(self.fc7(F.relu(self.fc6(h)))))
        if self.stride == 32:
            return window(self.upscore(h), x, 19)
        h = self.upscore2(h)
        h = h + window(self.score_pool4(pools[3] * self.scales[0]), h, 5)
        if self.stride == 16:
            return window(self.upscore16(h), x, 27)
        h = self.upscore_pool4(h)
        h = h + window(self.score_pool3(pools[2] * self.scales[1]), h, 9)
        return window(self.upscore8(h), x, 31)


def logits(name, net):
    return {f"{name}.{h}x{w}": net(image(h, w)) for h, w in SIZES}


def pytorch_fcn():
    results = {}
    for seed, stride in enumerate((32, 16, 8), start=20):
        net = randomize(PublishedFCN(stride), seed)
        path = HERE / f"pytorch_fcn{stride}s.pth"
        if stride == 32:
            torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
        elif stride == 16:
            torch.save(net.state_dict(), path)
        else:  # what its trainer writes
            checkpoint = {"epoch": 3, "iteration": 11, "arch": "FCN8s", "best_mean_iu": np.float64(0.5)}
            optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
            checkpoint["optim_state_dict"] = optimizer.state_dict()
            checkpoint["model_state_dict"] = net.state_dict()
            torch.save(checkpoint, path)
        results.update(logits(f"FCN{stride}s", net))
    return "pytorch_fcn", results


# --- Caffe ---------------------------------------------------------------------------------------------


def caffe_net():
    """caffe.proto's messages with their own types, independent of the schema that reads them."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")

    def add(message, *fields):
        described = file.message_type.add(name=message)
        for name, number, kind, repeated, packed in fields:
            entry = described.field.add(name=name, number=number)
            entry.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind[0].isupper():
                entry.type, entry.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                entry.type = getattr(kinds, f"TYPE_{kind.upper()}")
            if packed:
                entry.options.packed = True

    add("BlobShape", ("dim", 1, "int64", True, True))
    add(
        "BlobProto",
        ("num", 1, "int32", False, False),
        ("channels", 2, "int32", False, False),
        ("height", 3, "int32", False, False),
        ("width", 4, "int32", False, False),
        ("data", 5, "float", True, True),
        ("diff", 6, "float", True, True),
        ("shape", 7, "BlobShape", False, False),
    )
    add(
        "LayerParameter",
        ("name", 1, "string", False, False),
        ("type", 2, "string", False, False),
        ("bottom", 3, "string", True, False),
        ("top", 4, "string", True, False),
        ("blobs", 7, "BlobProto", True, False),
    )
    add(
        "V1LayerParameter",
        ("bottom", 2, "string", True, False),
        ("top", 3, "string", True, False),
        ("name", 4, "string", False, False),
        ("type", 5, "int32", False, False),
        ("blobs", 6, "BlobProto", True, False),
    )
    add(
        "NetParameter",
        ("name", 1, "string", False, False),
        ("layers", 2, "V1LayerParameter", True, False),
        ("layer", 100, "LayerParameter", True, False),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))()


def write_caffe(path, layers, v1=False):
    net = caffe_net()
    net.name = path.stem
    for name, tensors in layers.items():
        layer = (net.layers if v1 else net.layer).add(name=name, bottom=["data"], top=[name])
        layer.type = (14 if tensors[0].dim() == 2 else 4) if v1 else "Convolution"
        for tensor in tensors:
            blob = layer.blobs.add(data=tensor.flatten().tolist())
            if v1:  # four numbers, ones in front
                shape = [1] * (4 - tensor.dim()) + list(tensor.shape)
                blob.num, blob.channels, blob.height, blob.width = shape
            else:
                blob.shape.dim.extend(tensor.shape)
    net.layer.add(name="relu7", type="ReLU") if not v1 else net.layers.add(name="relu7", type=18)
    path.write_bytes(net.SerializeToString())


def by_layer(state):
    layers = {}
    for name, tensor in state.items():
        layers.setdefault(name.rpartition(".")[0], []).append(tensor)
    return layers


class PublishedAlexNet(nn.Module):
    """voc-fcn-alexnet: CaffeNet made convolutional, 63/32 deconvolution, cropped at 18."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 11, stride=4, padding=100)
        self.conv2 = nn.Conv2d(4, 8, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(8, 6, 3, padding=1)
        self.conv4 = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(6, 8, 3, padding=1, groups=2)
        self.fc6, self.fc7 = nn.Conv2d(8, FC, 6), nn.Conv2d(FC, FC, 1)
        self.score_fr, self.upscore = nn.Conv2d(FC, CLASSES, 1), up(63, 32)

    def forward(self, x):
        h = F.max_pool2d(F.relu(self.conv1(x)), 3, 2, ceil_mode=True)
        h = F.local_response_norm(h, 5, alpha=1e-4, beta=0.75, k=1.0)
        h = F.max_pool2d(F.relu(self.conv2(h)), 3, 2, ceil_mode=True)
        h = F.relu(self.conv3(F.local_response_norm(h, 5, alpha=1e-4, beta=0.75, k=1.0)))
        h = F.max_pool2d(F.relu(self.conv5(F.relu(self.conv4(h)))), 3, 2, ceil_mode=True)
        h = self.score_fr(F.relu(self.fc7(F.relu(self.fc6(h)))))
        return window(self.upscore(h), x, 18)


def caffe():
    results = {}
    net = randomize(TorchvisionVGG(ARCHS["vgg16"], False), 30)
    names = [f"conv{s}_{n}" for s, count in enumerate(ARCHS["vgg16"], 1) for n in range(1, count + 1)]
    layers = dict(zip([*names, "fc6", "fc7", "fc8"], by_layer(net.state_dict()).values()))
    write_caffe(HERE / "caffe_vgg16_v1.caffemodel", layers, v1=True)
    results.update(zip(("vgg16.pool5", "vgg16.fc7", "vgg16.logits"), net.parts(image(224, 224))))
    for seed, stride in enumerate((32, 16, 8), start=31):
        net = randomize(PublishedFCN(stride), seed)
        write_caffe(HERE / f"caffe_fcn{stride}s.caffemodel", by_layer(net.state_dict()))
        results.update(logits(f"FCN{stride}s", net))
    net = randomize(PublishedFCN(8, scales=(0.01, 0.0001)), 34)
    layers = by_layer(net.state_dict())
    layers["scale_pool4"] = [torch.full((WIDTHS[3],), 0.01)]
    layers["scale_pool3"] = [torch.full((WIDTHS[2],), 0.0001)]
    write_caffe(HERE / "caffe_fcn8s_atonce.caffemodel", layers)
    results.update(logits("FCN8sAtOnce", net))
    net = randomize(PublishedAlexNet(), 35)
    write_caffe(HERE / "caffe_fcn_alexnet.caffemodel", by_layer(net.state_dict()))
    results.update(logits("FCNAlexNet", net))
    return "caffe", results


def main():
    HERE.mkdir(exist_ok=True)
    with torch.no_grad():
        for make in (torchvision, timm_vgg, pytorch_fcn, caffe):
            name, results = make()
            arrays = {key: value.numpy() for key, value in results.items()}
            np.savez_compressed(HERE / f"{name}_expected.npz", **arrays)
    for path in sorted(HERE.iterdir()):
        print(f"{path.stat().st_size:8d} {path.name}")


if __name__ == "__main__":
    main()
