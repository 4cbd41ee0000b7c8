// The page: takes a dropped or chosen image, shows it with its classes over it, and their shares.

import { loadExport, segment } from "./segment.js";

const status = document.getElementById("status");
const drop = document.getElementById("drop");
const loading = loadExport();
loading.then(() => { status.textContent = "Ready."; }, (error) => { status.textContent = error.message; });

async function show(file) {
  status.textContent = `${file.name} …`;
  try {
    const network = await loading;
    const began = performance.now();
    const found = await segment(network, file);
    draw(found, network.deploy);
    window.found = found; // to look at from the console
    status.textContent = `${file.name}: ${Math.round(performance.now() - began)} ms`;
  } catch (error) {
    status.textContent = `${file.name}: ${error.message}`;
  }
}

/** A class's colour: deploy.yaml's palette. */
function colour(deploy, id) {
  return deploy.palette?.[id] ?? [(id * 67) % 256, (id * 137) % 256, (id * 29) % 256];
}

function draw({ labels, width, height, image }, deploy) {
  const canvas = document.getElementById("overlay");
  canvas.width = width;
  canvas.height = height;
  const picture = new ImageData(new Uint8ClampedArray(image.data), width, height);
  const counts = new Array(deploy.classes.length).fill(0);
  labels.forEach((id, i) => {
    counts[id]++;
    const rgb = colour(deploy, id);
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = (picture.data[4 * i + c] + rgb[c]) / 2;
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  const list = document.getElementById("shares");
  list.replaceChildren();
  counts
    .map((count, id) => ({ count, id }))
    .filter(({ count }) => count)
    .sort((a, b) => b.count - a.count)
    .forEach(({ count, id }) => {
      const line = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = `rgb(${colour(deploy, id)})`;
      line.append(swatch, `${deploy.classes[id]} ${((100 * count) / labels.length).toFixed(1)} %`);
      list.append(line);
    });
}

document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) show(event.dataTransfer.files[0]);
});
document.getElementById("file").addEventListener("change", (event) => {
  if (event.target.files.length) show(event.target.files[0]);
});
