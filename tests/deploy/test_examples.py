"""The examples without this library: C++ and the browser predict what the export predicts here."""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import paddle
import pytest
from PIL import Image

from paddlefcn.backbones import VGG
from paddlefcn.classes import Classes
from paddlefcn.commands import main
from paddlefcn.data.images import Normalize, Resize
from paddlefcn.deploy.deployment import Deployment
from paddlefcn.deploy.predictor import Predictor
from paddlefcn.deploy.targets import Target
from paddlefcn.deploy.writer import write_export
from paddlefcn.models import FCN8s
from paddlefcn.preprocess import Preprocess

EXAMPLES = Path(__file__).parents[2] / "examples"
# means of many digits, so that deploy.yaml wraps their line
NORMALIZE = Normalize(
    255, (0.48501960784313727, 0.4579568627450981, 0.40760784313725492), (0.2, 0.25, 0.3), "BGR"
)
ABOUT = Deployment("FCN8s", Preprocess((), NORMALIZE), Classes(("背景", "road", "car, parked")))
SIZES = ((47, 61), (64, 96), (31, 33), (133, 171))


def network():
    paddle.seed(0)
    net = FCN8s(VGG(arch=[1, 1, 1, 1, 1], width=8), num_classes=3, fc_channels=16, fc6_kernel=3)
    for name, parameter in net.named_parameters():
        if name.startswith("score"):
            parameter.set_value(paddle.randn(parameter.shape))
    net.eval()
    with paddle.no_grad():
        level = net(paddle.randn([1, 3, 64, 64]))[0].mean([0, 2, 3])
    net.score_fr.bias.set_value(net.score_fr.bias - level)
    return net


def draw_images(folder, ending):
    folder.mkdir()
    rng = np.random.default_rng(3)
    for index, (height, width) in enumerate(SIZES):
        coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
        image = coarse.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
        noisy = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{index}{ending}")
    return sorted(folder.iterdir())


# ---- C++ ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The C++ example, built as its README says."""
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("onnxruntime")
    if not shutil.which("cmake") or not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("needs cmake and a C++ compiler")
    build = tmp_path_factory.mktemp("cpp") / "build"
    where = Path(openvino.__file__).parent / "cmake"
    for command in (
        ["cmake", "-S", EXAMPLES / "cpp", "-B", build, f"-DOpenVINO_DIR={where}"],
        ["cmake", "--build", build],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "segment"


@pytest.mark.slow
def test_the_cpp_example_equals_infer_pixel_for_pixel(program, tmp_path):
    images = draw_images(tmp_path / "images", ".bmp")
    for outputs in ("logits", "labels"):
        folder, written = tmp_path / outputs, tmp_path / f"{outputs}_written"
        write_export(network(), ABOUT, folder, target=Target("openvino", outputs=outputs))
        wishes = ["--input", str(tmp_path / "images"), "--output", str(written), "--no-overlay"]
        assert main(["infer", "--model", str(folder), *wishes]) == 0
        for image in images:
            result = tmp_path / f"{outputs}_{image.stem}.pgm"
            subprocess.run([program, folder, image, result], check=True, timeout=120)
            ours = np.asarray(Image.open(written / f"{image.stem}.png"))
            np.testing.assert_array_equal(np.asarray(Image.open(result)), ours)
            assert len(np.unique(ours)) > 1


@pytest.mark.slow
def test_the_cpp_example_refuses_what_it_cannot_equal_in_one_line(program, tmp_path):
    image = draw_images(tmp_path / "images", ".bmp")[0]
    cut = tmp_path / "cut.bmp"
    cut.write_bytes(image.read_bytes()[:-200])
    about = Deployment("FCN8s", Preprocess((Resize(short=48),), NORMALIZE), ABOUT.classes)
    write_export(network(), about, tmp_path / "resized", target=Target("openvino"))
    write_export(network(), ABOUT, tmp_path / "whole", target=Target("openvino"))
    write_export(network(), ABOUT, tmp_path / "paddle")
    for folder, file, words in (
        ("resized", image, "takes no export with a Resize"),
        ("paddle", image, "is no export with --format openvino"),
        ("missing", image, "cannot be read; give a folder"),
        ("whole", cut, "is truncated"),
        ("whole", tmp_path / "resized" / "deploy.yaml", "is no BMP"),
    ):
        command = [program, tmp_path / folder, file, tmp_path / "x.pgm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "x.pgm").exists()


# ---- the browser -------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ORT = Path(os.environ.get("PADDLEFCN_ORT_WEB", "node_modules/onnxruntime-web/dist"))
# drops an image on the page as a hand would, and tells what came of it
TEST_PAGE = b"""<!doctype html><iframe id="page" src="/index.html"></iframe>
<script type="module" src="/test.js"></script>"""
TEST_SCRIPT = """
const frame = document.getElementById("page");
const until = async (found) => { while (!found()) await new Promise((go) => setTimeout(go, 50)); };
const send = (name, body) => fetch("/told/" + name, { method: "POST", body });
const text = () => frame.contentDocument?.getElementById("status")?.textContent ?? "";
try {
  await until(() => text() && !text().startsWith("Loading"));
  if (text() !== "Ready.") throw new Error(text());
  const page = frame.contentWindow;
  const blob = await (await fetch("/image.png")).blob();
  const transfer = new page.DataTransfer();
  transfer.items.add(new page.File([blob], "image.png", { type: "image/png" }));
  const drop = new page.DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  frame.contentDocument.dispatchEvent(drop);
  await until(() => page.found || text().includes("rror"));
  await send("labels", page.found.labels);
  const { prepare } = await import("/segment.js");
  const deploy = await (await fetch("/model/deploy.json")).json();
  await send("tensor", prepare(page.found.image, deploy.preprocess.normalize));
  await send("shares", frame.contentDocument.getElementById("shares").innerText);
  let outside = "refused";
  try { await fetch("http://127.0.0.1:OUTSIDE/"); outside = "reached"; } catch {}
  await send("end", outside + " " + page.crossOriginIsolated);
} catch (error) {
  await send("end", "failed: " + error.message + " / " + text());
}
"""


def load_server():
    spec = importlib.util.spec_from_file_location("browser_serve", EXAMPLES / "browser" / "serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Outside(BaseHTTPRequestHandler):
    """Another server, which the page must not reach."""

    seen: ClassVar[list] = []

    def do_GET(self):
        Outside.seen.append(self.path)
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Cross-Origin-Resource-Policy", "cross-origin")
        self.end_headers()

    def log_message(self, *args):
        pass


def started(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def browse(model, image, tmp_path):
    """What the page told of one dropped image: name -> bytes."""
    told, ended = {}, threading.Event()
    outside = started(Outside)
    script = TEST_SCRIPT.replace("OUTSIDE", str(outside.server_address[1])).encode()
    more = {
        "/test.html": ("text/html", TEST_PAGE),
        "/test.js": ("text/javascript", script),
        "/image.png": ("image/png", image.read_bytes()),
    }

    class Handler(load_server().Handler):
        def do_GET(self):
            if self.path not in more:
                super().do_GET()
                return
            kind, body = more[self.path]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            name = self.path.rsplit("/", 1)[-1]
            told[name] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            if name == "end":
                ended.set()

        def log_message(self, *args):
            pass

    server = started(functools.partial(Handler, model=model, ort=ORT.resolve()))
    address = f"http://127.0.0.1:{server.server_address[1]}/test.html"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    with (tmp_path / "chromium.log").open("wb") as log:
        browser = subprocess.Popen(
            [CHROMIUM, *flags, "--remote-debugging-port=0", address], stderr=log, stdout=log
        )
        try:
            assert ended.wait(180), (tmp_path / "chromium.log").read_text(errors="replace")[-2000:]
        finally:
            browser.kill()
            browser.wait()
            server.shutdown()
            outside.shutdown()
    return told


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
@pytest.mark.skipif(
    not (ORT / "ort.wasm.min.mjs").is_file(), reason="needs onnxruntime-web, PADDLEFCN_ORT_WEB"
)
@pytest.mark.parametrize("outputs", ["logits", "labels"])
def test_the_page_finds_in_a_dropped_image_what_infer_finds_and_reaches_nobody(outputs, tmp_path):
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("onnxruntime")
    write_export(network(), ABOUT, tmp_path / "net", target=Target("onnx", outputs=outputs))
    image = draw_images(tmp_path / "images", ".png")[-1]
    Outside.seen.clear()
    told = browse(tmp_path / "net", image, tmp_path)
    assert told["end"] == b"refused true"
    assert Outside.seen == []
    pixels = np.asarray(Image.open(image))
    tensor = np.frombuffer(told["tensor"], np.float32).reshape(3, *pixels.shape[:2])
    np.testing.assert_array_equal(tensor, NORMALIZE(pixels))  # to the bit
    ours = Predictor(tmp_path / "net").predict(pixels)
    theirs = np.frombuffer(told["labels"], np.uint8).reshape(ours.shape)
    assert len(np.unique(ours)) == 3
    assert (ours == theirs).mean() >= 0.9999
    assert "car, parked" in told["shares"].decode("utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="paths of another kind")
def test_the_servers_paths_lead_nowhere_but_into_its_three_folders(tmp_path):
    module = load_server()
    handler = module.Handler.__new__(module.Handler)
    handler.folders = {"model": tmp_path / "m", "ort": tmp_path / "o"}
    assert handler.translate_path("/") == str(module.HERE / "index.html")
    assert handler.translate_path("/model/model.onnx?x=1") == str(tmp_path / "m" / "model.onnx")
    assert handler.translate_path("/ort/a.wasm") == str(tmp_path / "o" / "a.wasm")
    for path in (
        "/..",
        "/model/..",
        "/model/%2e%2e",
        "/model/../../etc/passwd",
        "/model/..%2f..%2fx",
        "/a/b/c",
        "/model/..%5cx",
    ):
        assert handler.translate_path(path) == str(module.HERE / "missing"), path
