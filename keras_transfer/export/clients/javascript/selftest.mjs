/**
 * Replays the golden images of a bundle: their pixels, and the models' answers where a runner is given.
 *
 *     node clients/javascript/selftest.mjs [BUNDLE]    exit code 1 on any deviation
 *
 * In a browser, or with a runtime:
 *
 *     const rows = await selfTest(async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer()), { run });
 *     rows.every((row) => row.passed);
 */

import { Preprocessing, PreprocessingError, inputOf } from "./preprocess.mjs";

/**
 * @param {function(string): Promise<Uint8Array>} read the content of a file of the bundle, by its name there.
 * @param {object} given
 *   run: async (file, input) => numbers: what the model `file` answers to what it takes, pixels as inputOf() makes them
 *     fit it (Uint8Array, Int8Array or Float32Array); without it no model is asked.
 *   models: which files are asked; by default every .tflite of the bundle.
 *   decode: async (name, content) => a picture as Preprocessing.apply takes it, or null: for golden images that are no
 *     PNG (a JPEG, decoded at jpegScale). Without it such an image is taken as the reference decoded it.
 * @returns {Promise<Array>} rows { what, passed, told, leftOut }, one for each thing that was checked, or left out.
 */
export async function selfTest(read, { run, models, decode } = {}) {
  const text = async (name) => new TextDecoder("utf-8", { fatal: true }).decode(await read(name));
  const bundle = JSON.parse(await text("bundle.json"));
  const preprocessing = Preprocessing.of(bundle);
  const golden = JSON.parse(await text("golden/golden.json"));
  const rows = [await checkFiles(bundle, golden, read), await checkLabels(bundle, text)];
  const pixels = [];
  for (const { image, input, decoded, scale, size } of golden.images) {
    const expected = (await readPng(await read(input))).data;
    pixels.push(expected);
    const check = (what, picture) => rows.push(checkPixels(preprocessing, what, picture, expected, golden));
    if (!decoded) {
      check(image, await readPng(await read(image)));
      continue;
    }
    const [fullHeight, fullWidth] = size;
    check(decoded, { ...(await readPng(await read(decoded))), scale, fullWidth, fullHeight });
    const own = await decode?.(image, await read(image));
    if (own) check(image, own);
    else rows.push({ what: image, passed: true, leftOut: true, told: "left out: no decoder was given for it" });
  }
  if (!run) return rows;
  const all = bundle.artefacts.map((one) => one.file).filter((file) => file.endsWith(".tflite"));
  for (const file of models ?? all) {
    try {
      rows.push(await checkAnswers(bundle, golden, file, pixels, run));
    } catch (error) { // one that cannot be run keeps the others from nothing
      rows.push({ what: file, passed: false, told: error.message });
    }
  }
  return rows;
}

async function checkFiles(bundle, golden, read) {
  const subtle = globalThis.crypto?.subtle; // browsers have it on https and on localhost alone
  if (!subtle) {
    return { what: "files", passed: true, leftOut: true,
      told: "left out: browsers compare hashes on https and localhost alone" };
  }
  const names = Object.keys(bundle.files).filter((name) => name === "labels.txt" || name.startsWith("golden/"));
  const other = [];
  for (const name of names) {
    const digest = new Uint8Array(await subtle.digest("SHA-256", await read(name)));
    const told = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (told !== bundle.files[name].sha256) other.push(name);
  }
  const told = other.length === 0 ? `${names.length} are those that were exported`
    : `not those that were exported: ${other.join(", ")}`;
  return { what: "files", passed: other.length === 0, told };
}

async function checkLabels(bundle, text) {
  const passed = (await text("labels.txt")) === bundle.labels.map((label) => `${label}\n`).join("");
  return { what: "labels", passed, told: passed ? "those of bundle.json" : "labels.txt has others than bundle.json" };
}

function checkPixels(preprocessing, what, picture, expected, { pixel_tolerance: allowed }) {
  const { scale = 1, fullWidth, fullHeight } = picture;
  if (scale !== 1 && preprocessing.jpegScale(fullWidth, fullHeight) !== scale) {
    return { what, passed: false, told: `decoded at 1/${scale} of its size, and another part is expected` };
  }
  const given = preprocessing.apply(picture);
  if (given.length !== expected.length) {
    return { what, passed: false, told: `${given.length} bytes of pixels; ${expected.length} are expected` };
  }
  let [count, furthest] = [0, 0];
  for (let i = 0; i < given.length; i += 1) {
    const difference = Math.abs(given[i] - expected[i]);
    count += difference > 0 ? 1 : 0;
    furthest = Math.max(furthest, difference);
  }
  const told = count === 0 ? "pixels identical"
    : `${count} bytes differ, by up to ${furthest} of 255 (allowed ${allowed})`;
  return { what, passed: furthest <= allowed, told };
}

async function checkAnswers(bundle, golden, file, pixels, run) {
  const allowed = golden.tolerances[file];
  let furthest = 0;
  for (let i = 0; i < pixels.length; i += 1) {
    const given = Array.from(await run(file, inputOf(bundle, file, pixels[i])));
    const answer = given.filter((_, place) => place % golden.step === 0);
    const expected = golden.expected[file][i];
    if (answer.length !== expected.length) {
      return { what: file, passed: false, told: `${answer.length} numbers; ${expected.length} are expected` };
    }
    answer.forEach((number, place) => {
      const difference = Math.abs(number - expected[place]);
      furthest = difference <= furthest ? furthest : difference; // NaN stays
    });
  }
  const told = `largest difference ${Number(furthest).toExponential(1)} (allowed ${allowed})`;
  return { what: file, passed: furthest <= allowed, told };
}

/** A PNG of 8 bits a channel, grey, RGB or RGBA, not interlaced, as Pillow writes it. */
export async function readPng(content) {
  const view = new DataView(content.buffer, content.byteOffset, content.length);
  const parts = [];
  let header = null;
  for (let at = 8; at + 12 <= content.length; at += 12 + view.getUint32(at)) {
    const data = content.subarray(at + 8, at + 8 + view.getUint32(at));
    const type = String.fromCharCode(...content.subarray(at + 4, at + 8));
    if (type === "IHDR") header = { width: view.getUint32(at + 8), height: view.getUint32(at + 12), kind: data };
    if (type === "IDAT") parts.push(data);
  }
  const channels = { 0: 1, 2: 3, 6: 4 }[header?.kind[9]];
  if (view.getUint32(0) !== 0x89504e47 || !channels || header.kind[8] !== 8 || header.kind[12] !== 0) {
    throw new PreprocessingError("A golden image is no PNG of 8 bits a channel.");
  }
  const inflated = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(inflated).arrayBuffer());
  const { width, height } = header;
  const row = width * channels;
  const data = new Uint8Array(row * height);
  for (let y = 0; y < height; y += 1) {
    const filter = raw[y * (row + 1)];
    for (let x = 0; x < row; x += 1) {
      const place = y * row + x;
      const left = x < channels ? 0 : data[place - channels];
      const above = y === 0 ? 0 : data[place - row];
      const corner = x < channels || y === 0 ? 0 : data[place - row - channels];
      data[place] = raw[y * (row + 1) + 1 + x] + predicted(filter, left, above, corner);
    }
  }
  return { data, width, height };
}

/** What PNG expects of a byte (ISO/IEC 15948, 9.2): nothing, a neighbour, two's mean, or the likeliest of three. */
function predicted(filter, left, above, corner) {
  if (filter === 0) return 0;
  if (filter === 1) return left;
  if (filter === 2) return above;
  if (filter === 3) return (left + above) >> 1;
  const a = Math.abs(above - corner);
  const b = Math.abs(left - corner);
  const c = Math.abs(left + above - 2 * corner);
  if (a <= b && a <= c) return left;
  return b <= c ? above : corner;
}

const isMain = typeof process !== "undefined" && process.argv?.[1]?.endsWith("selftest.mjs");
if (isMain) {
  const [{ readFile }, { join }, { fileURLToPath }] = await Promise.all(
    ["node:fs/promises", "node:path", "node:url"].map((name) => import(name)));
  const folder = process.argv[2] ?? fileURLToPath(new URL("../..", import.meta.url));
  try {
    const rows = await selfTest(async (name) => new Uint8Array(await readFile(join(folder, name))));
    const mark = (row) => (row.leftOut ? "- " : row.passed ? "ok" : "WRONG");
    for (const row of rows) console.log(`${mark(row)}  ${row.what}: ${row.told}`);
    const passed = rows.every((row) => row.passed);
    const left = rows.filter((row) => row.leftOut).length;
    console.log((passed ? "passed" : "FAILED") + (left ? `; left out: ${left}` : ""));
    process.exitCode = passed ? 0 : 1;
  } catch (error) {
    console.error(`The self-test cannot be run: ${error.message}`);
    process.exitCode = 1;
  }
}
