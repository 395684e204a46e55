/** The golden images of the bundle, replayed in this browser: rows { what, passed, told }. */

import { readPng, selfTest } from "../javascript/selftest.mjs";
import { Model, MOST_BYTES } from "./model.mjs";
import { decode } from "./photo.mjs";

/** Names and embeddings that a bundle of embeddings may carry. */
export const GALLERY = "gallery.bin";
const MEAN = 1; // of 255: how far a JPEG that this browser decoded may be from the recorded pixels, on average

/**
 * @param {object} bundle the parsed bundle.json.
 * @param {Preprocessing} preprocessing of it.
 * @param {function(string): Promise<Uint8Array>} read the content of a file of the bundle.
 * @param {function(string)} tell what is being done.
 */
export async function prove(bundle, preprocessing, read, tell) {
  const kept = new Map();
  const remembered = (name) => {
    if (!kept.has(name)) kept.set(name, read(name));
    return kept.get(name);
  };
  const models = modelsOf(bundle);
  const rows = await checkModels(bundle, models, remembered);
  let [open, model] = [null, null];
  const run = async (file, input) => {
    if (open !== file) {
      model?.close();
      [open, model] = [null, null];
      tell(`Running ${file} ...`);
      model = await Model.open(bundle, file, remembered);
      open = file;
    }
    return (await model.ask(input)).numbers;
  };
  tell("Comparing pixels ...");
  try {
    // Photos are asked for below: the self-test reads PNG alone.
    rows.push(...(await selfTest(remembered, { run, models })).filter(({ what }) => !isPhoto(what)));
  } finally {
    model?.close();
  }
  const { images } = JSON.parse(new TextDecoder().decode(await remembered("golden/golden.json")));
  for (const { image, input } of images.filter((one) => isPhoto(one.image))) {
    rows.push(await checkPhoto(preprocessing, image, await remembered(image), await remembered(input)));
  }
  return rows;
}

/** The files that this page can run, as they stand in the bundle. */
export function modelsOf(bundle) {
  return bundle.artefacts.map((one) => one.file).filter((file) => file.endsWith(".tflite"));
}

const isPhoto = (name) => name.startsWith("golden/") && !name.endsWith(".png");

async function checkModels(bundle, models, read) {
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) return []; // the self-test says so
  const rows = [];
  for (const file of [...models, GALLERY].filter((name) => bundle.files[name]?.bytes <= MOST_BYTES)) {
    const digest = new Uint8Array(await subtle.digest("SHA-256", await read(file)));
    const told = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    const passed = told === bundle.files[file].sha256;
    const found = passed ? "as it was exported" : "not the one that was exported";
    rows.push({ what: `${file}, the file`, passed, told: found });
  }
  return rows;
}

/** A golden JPEG through this browser's decoder, which is another than that of the training. */
async function checkPhoto(preprocessing, image, content, input) {
  const given = preprocessing.apply(await decode(new Blob([content]), image));
  const { data: expected } = await readPng(input);
  let [sum, furthest] = [0, 0];
  for (let i = 0; i < expected.length; i += 1) {
    const difference = Math.abs(given[i] - expected[i]);
    sum += difference;
    furthest = Math.max(furthest, difference);
  }
  const mean = given.length === expected.length ? sum / expected.length : Infinity;
  const told = `decoded by this browser: pixels differ by ${mean.toFixed(2)} of 255 on average (allowed ${MEAN}), by `
    + `up to ${furthest}`;
  return { what: image, passed: mean <= MEAN, told };
}
