"""`pretrained:` takes paths, URLs and names, each file once, and says what came of it."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest

from paddlefcn import VGG11, VGG16, FCN8s, FCN16s, FCN32s, PublishedFCN8s
from paddlefcn.errors import WeightsError
from paddlefcn.weights import load_pretrained, normalize_metadata, save_state
from paddlefcn.weights.pretrained import PUBLISHED, fetch

FIXTURES = Path(__file__).parent / "fixtures"
WIDTHS = [2, 4, 6, 8, 8]
IMAGENET = {"scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": "RGB"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLEFCN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def offline(monkeypatch):
    from paddlefcn.data import download
    from paddlefcn.errors import DataError

    def refuse(url, *args, **kwargs):
        raise DataError(f"{url}: Name or service not known")

    monkeypatch.setattr(download, "download", refuse)


@pytest.fixture
def server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        asked: list[str] = []  # noqa: RUF012

        def do_GET(self):
            self.asked.append(self.path)
            super().do_GET()

        def log_message(self, *args):
            pass

    (tmp_path / "web").mkdir()
    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    served.asked, served.folder = Quiet.asked, tmp_path / "web"
    served.url = f"http://127.0.0.1:{served.server_address[1]}"
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


def backbone(normed=False, kind=VGG16):
    return kind(widths=WIDTHS, batch_norm=normed)


def fcn(kind=FCN8s, **arguments):
    given = {"num_classes": 7, "fc_channels": 12, "batch_norm": False, **arguments}
    return kind(backbone(), **given)


def test_a_foreign_file_goes_into_a_backbone_and_the_rest_is_listed(capsys):
    net = backbone()
    report = load_pretrained(net, FIXTURES / "torchvision_vgg16.pth", what="backbone", normalize=IMAGENET)
    assert len(report.names("loaded")) == 26
    assert set(report.names("skipped")) == {
        f"classifier.{n}.{k}" for n in (0, 3, 6) for k in ("weight", "bias")
    }
    said = capsys.readouterr().err
    assert "26 loaded, 6 skipped" in said
    assert "classifier.6.weight" in said


def test_a_classifier_goes_into_a_model_whose_score_layers_stay_at_zero():
    net = fcn()
    report = load_pretrained(net, FIXTURES / "torchvision_vgg16.pth", what="model", say=lambda text: None)
    assert set(report.names("missing")) == {
        f"score_{n}.{k}" for n in ("fr", "pool3", "pool4") for k in ("weight", "bias")
    }
    assert not np.any(net.score_fr.weight.numpy())


def test_score_layers_for_other_classes_keep_their_start(tmp_path):
    one, other = fcn(num_classes=3), fcn(num_classes=7)
    save_state(one, tmp_path / "three.safetensors")
    report = load_pretrained(other, tmp_path / "three.safetensors", what="model", say=lambda text: None)
    assert "score_fr.weight" in report.table()
    assert "file [3, 12, 1, 1], network [7, 12, 1, 1]" in report.table()
    np.testing.assert_array_equal(other.fc6.conv.weight.numpy(), one.fc6.conv.weight.numpy())


def test_a_stage_passes_its_weights_to_the_next(tmp_path):
    first = fcn(FCN32s, upsample="transposed")
    run = tmp_path / "run" / "best"
    run.mkdir(parents=True)
    save_state(first, run / "model.safetensors", normalize_metadata(IMAGENET))
    second = fcn(FCN16s, upsample="transposed")
    report = load_pretrained(
        second, tmp_path / "run", what="model", normalize=IMAGENET, say=lambda text: None
    )
    assert report.names("skipped") == ("upscore32.weight",)
    assert set(report.names("missing")) == {
        "score_pool4.weight",
        "score_pool4.bias",
        "upscore2.weight",
        "upscore16.weight",
    }
    np.testing.assert_array_equal(second.score_fr.weight.numpy(), first.score_fr.weight.numpy())


@pytest.mark.parametrize(
    ("net", "file", "message"),
    [
        (
            lambda: backbone(normed=True),
            "torchvision_vgg16.pth",
            r"has no BatchNorm; set model\.backbone\.batch_norm: false",
        ),
        (
            lambda: backbone(kind=VGG11),
            "torchvision_vgg11_bn.pth",
            r"has BatchNorm; set model\.backbone\.batch_norm: true",
        ),
        (lambda: backbone(), "torchvision_vgg13.safetensors", r"conv3_3\.conv\.weight is missing"),
        (lambda: backbone(kind=VGG11), "torchvision_vgg16.pth", r"features\.2\.weight has no place"),
        (
            lambda: VGG16(width=4, batch_norm=False),
            "torchvision_vgg16.pth",
            r"the file's backbone is \{type: VGG16, batch_norm: false, widths: \[2, 4, 6, 8, 8\]\}, the",
        ),
        (
            lambda: FCN8s(VGG16(width=4, batch_norm=False), num_classes=3, fc_channels=6, batch_norm=False),
            "torchvision_vgg16.pth",
            r"network's \{type: VGG16, batch_norm: false, width: 4\}; set model\.backbone to the former$",
        ),
        (
            lambda: VGG16(widths=(2, 4, 6, 8, 8), batch_norm=False, in_channels=4),
            "torchvision_vgg16.pth",
            r"for images of 3 channels, data\.normalize has 4",
        ),
        (lambda: fcn(fc_channels=6), "torchvision_vgg16.pth", "--fc-channels N --fc6-kernel K"),
        (lambda: fcn(fc6_kernel=3), "torchvision_vgg16.pth", "--fc-channels N --fc6-kernel K"),
    ],
)
def test_a_file_that_does_not_fit_leaves_the_network_as_it_was(net, file, message):
    net = net()
    before = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as caught:
        load_pretrained(net, FIXTURES / file, what="backbone")
    assert "\n" not in str(caught.value)
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])


def test_images_normalised_otherwise_than_the_weights_want_are_refused():
    with pytest.raises(WeightsError, match=r"104\.00699.*order: BGR.*data\.normalize is .*0\.485"):
        load_pretrained(fcn(), FIXTURES / "pytorch_fcn8s.pth", what="model", normalize=IMAGENET)


def test_a_url_is_downloaded_once_and_its_checksum_checked(server, cache):
    data = (FIXTURES / "torchvision_vgg16.pth").read_bytes()
    (server.folder / "w.pth").write_bytes(data)
    good = f"{server.url}/w.pth#sha256={hashlib.sha256(data).hexdigest()}"
    for _ in range(2):
        load_pretrained(backbone(), good, what="backbone", say=lambda text: None)
    assert server.asked.count("/w.pth") == 1
    assert len(list(cache.iterdir())) == 1


def test_a_wrong_checksum_leaves_nothing_in_the_cache(server, cache):
    (server.folder / "w.pth").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="0000000000000000"):
        load_pretrained(backbone(), f"{server.url}/w.pth#sha256={'0' * 64}", what="backbone")
    assert not list(cache.rglob("*w.pth"))


def test_a_missing_page_is_one_line(server):
    with pytest.raises(
        WeightsError, match=r"/nothing\.pth could not be downloaded .*put the file at "
    ) as caught:
        load_pretrained(backbone(), f"{server.url}/nothing.pth", what="backbone")
    assert "\n" not in str(caught.value)


def test_offline_the_message_says_what_to_put_where(offline, cache):
    with pytest.raises(WeightsError) as caught:
        load_pretrained(VGG16(batch_norm=False), "imagenet", what="backbone")
    message = str(caught.value)
    assert "https://paddle-hapi.bj.bcebos.com/models/vgg16.pdparams" in message
    assert f"put the file at {cache / 'vgg16.pdparams'}" in message


def test_a_file_put_into_the_cache_is_checked_and_left(offline, cache):
    cache.mkdir()
    (cache / "vgg16.pdparams").write_bytes(b"not it")
    with pytest.raises(WeightsError, match=r"its md5 is \w+, not 89bbffc0f87d260be9b8cdc169c991c4"):
        load_pretrained(VGG16(batch_norm=False), "imagenet", what="backbone")
    assert (cache / "vgg16.pdparams").exists()


def test_the_names_stand_for_the_networks_own_files(offline, cache):
    def address(layer, name):
        with pytest.raises(WeightsError) as caught:
            fetch(layer, name, what="model")
        return str(caught.value).split()[0]

    assert address(VGG16(batch_norm=True), "imagenet").endswith("/vgg16_bn-6c64b313.pth")
    assert address(VGG16(batch_norm=False), "torchvision").endswith("/vgg16-397923af.pth")
    assert address(VGG11(batch_norm=False), "imagenet").endswith("/vgg11-8a719046.pth")
    backbone = VGG16(width=2, batch_norm=False, padding="reference")
    reference = PublishedFCN8s(backbone, num_classes=21, fc_channels=4)
    assert address(reference, "berkeley").endswith("/fcn8s-heavy-pascal.caffemodel")


def test_paddles_addresses_and_checksums_are_those_of_the_installed_paddle():
    from paddle.vision.models.vgg import model_urls

    for name, (url, md5) in model_urls.items():
        assert (PUBLISHED["imagenet"][name].url, PUBLISHED["imagenet"][name].checksum) == (url, f"md5:{md5}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("imagenett", "'imagenett' is no file and none of berkeley, imagenet, torchvision"),
        ("no/such.pth", "no such file"),
        ("imagenet", "this backbone is vgg16 of another width"),
        ("http://127.0.0.1:9/w.pth#crc=1", "neither #sha256=HEX nor #md5=HEX"),
        ("http://127.0.0.1:9/", "names no file"),
    ],
)
def test_a_source_that_cannot_be_is_one_line(source, message):
    with pytest.raises(WeightsError, match=message):
        load_pretrained(backbone(), source, what="backbone")
