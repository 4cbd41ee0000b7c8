"""Serves the page, an ONNX export and onnxruntime-web to a browser on this machine.

    npm install onnxruntime-web@1.22.0
    python examples/browser/serve.py --model output/my_onnx --ort node_modules/onnxruntime-web/dist

Then open http://127.0.0.1:8000. Needs Python and PyYAML alone. The headers keep the page from reaching any
other server, and let onnxruntime-web use several threads.
"""

from __future__ import annotations

import argparse
import functools
import json
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import yaml

HERE = Path(__file__).resolve().parent
HEADERS = {
    # nothing is fetched from, or sent to, anywhere else
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval' blob:; "
    "worker-src 'self' blob:; img-src 'self' blob:; style-src 'self' 'unsafe-inline'; form-action 'none'",
    # both together make the page isolated, without which there are no threads
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",
}


class Handler(SimpleHTTPRequestHandler):
    """`/` is this folder, `/model/` the export with deploy.yaml as deploy.json, `/ort/` onnxruntime-web."""

    extensions_map: ClassVar[dict[str, str]] = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
    }

    def __init__(self, *args: Any, model: Path, ort: Path, **more: Any) -> None:
        self.folders = {"model": model, "ort": ort}
        super().__init__(*args, **more)

    def translate_path(self, path: str) -> str:
        """A plain file name in one of the three folders; anything else is not there."""
        parts = [part for part in unquote(urlsplit(path).path).split("/") if part] or ["index.html"]
        folder = self.folders.get(parts[0], HERE) if len(parts) == 2 else HERE
        if parts[-1] in (".", "..") or "\\" in parts[-1] or len(parts) > 2:
            return str(HERE / "missing")
        return str(folder / parts[-1])

    def do_GET(self) -> None:
        """As SimpleHTTPRequestHandler, and deploy.yaml as JSON."""
        if urlsplit(self.path).path != "/model/deploy.json":
            super().do_GET()
            return
        tree = yaml.safe_load((self.folders["model"] / "deploy.yaml").read_text(encoding="utf-8"))
        body = json.dumps(tree).encode("utf-8")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        """With HEADERS."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a folder of `export --format onnx`")
    parser.add_argument("--ort", type=Path, required=True, help="the folder dist of onnxruntime-web")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    for file in (args.model / "deploy.yaml", args.ort / "ort.wasm.min.mjs"):
        if not file.is_file():
            parser.error(f"{file} is not there")
    handler = functools.partial(Handler, model=args.model, ort=args.ort)
    with ThreadingHTTPServer(("127.0.0.1", args.port), handler) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
