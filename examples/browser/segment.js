// Runs an ONNX export of paddlefcn in the browser: from an image file to the class of each pixel.
// Everything stays in this page; the server's Content-Security-Policy lets it reach nothing else.

import * as ort from "./ort/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;

/** The export in `model/`: what deploy.yaml says, and the session that runs its program. */
export async function loadExport() {
  const answer = await fetch("model/deploy.json");
  if (!answer.ok) throw new Error(`model/deploy.json: ${answer.status}`);
  const deploy = await answer.json();
  const { resize, normalize } = deploy.preprocess;
  if (deploy.runtime !== "onnx") throw new Error(`a ${deploy.runtime} export; give one with --format onnx`);
  if (resize.length) throw new Error("this page takes no export with a Resize in data.val_transforms");
  if (normalize.mean.length !== 3) throw new Error("this page takes exports for images of 3 channels");
  const session = await ort.InferenceSession.create(`model/${deploy.files.model.name}`);
  return { deploy, session };
}

/** The pixels of a file as they stand in it, turned as its EXIF says: ImageData, RGBA. */
export async function readPixels(file) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };
  const bitmap = await createImageBitmap(file, options);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** (x / scale - mean) / std, in float32 and in the order that paddlefcn computes it: [3, height, width]. */
export function prepare({ data, width, height }, { scale, mean, std, order }) {
  const pixels = width * height;
  const tensor = new Float32Array(3 * pixels);
  for (let channel = 0; channel < 3; channel++) {
    const factor = Math.fround(1 / (scale * std[channel]));
    const shift = Math.fround(mean[channel] / std[channel]);
    const table = Float32Array.from({ length: 256 }, (_, x) => Math.fround(x * factor) - shift);
    const plane = order === "BGR" ? 2 - channel : channel;
    for (let i = 0; i < pixels; i++) tensor[channel * pixels + i] = table[data[4 * i + plane]];
  }
  return tensor;
}

/** The class of the highest logit of each pixel, the lowest among equals; class ids go through as they are. */
export function decide({ data, dims }) {
  if (dims.length === 3) return Uint8Array.from(data);
  const pixels = dims[2] * dims[3];
  const labels = new Uint8Array(pixels);
  const best = data.slice(0, pixels);
  for (let id = 1; id < dims[1]; id++) {
    for (let i = 0; i < pixels; i++) {
      if (data[id * pixels + i] > best[i]) {
        best[i] = data[id * pixels + i];
        labels[i] = id;
      }
    }
  }
  return labels;
}

/** The class of each pixel of an image file: {labels, width, height, image}. */
export async function segment({ deploy, session }, file) {
  const image = await readPixels(file);
  const { width, height } = image;
  const tensor = new ort.Tensor("float32", prepare(image, deploy.preprocess.normalize), [1, 3, height, width]);
  const output = await session.run({ [session.inputNames[0]]: tensor });
  return { labels: decide(output[session.outputNames[0]]), width, height, image };
}
