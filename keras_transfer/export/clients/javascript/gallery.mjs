/**
 * Enrolled names and embeddings: the gallery.bin that `keras-transfer siamese gallery export` puts into a bundle. An ES
 * module for browsers and Node, without dependencies.
 *
 *     const gallery = readGallery(await (await fetch("gallery.bin")).arrayBuffer(), bundle);
 *     match(gallery.rule, answer, gallery.enrolled).name; // null: unknown
 */

import { PreprocessingError } from "./preprocess.mjs";

const MAGIC = "KTGALLRY";
const VERSION = 1;
const HEADER = 112;
const KINDS = ["cosine", "euclidean", "weighted_l1"];

/**
 * @param {ArrayBuffer} content of gallery.bin.
 * @param {object} bundle the parsed bundle.json; embeddings of another model are refused.
 * @returns {object} rule, as match() takes it, and enrolled: [{ name, embedding: Float32Array }, ...].
 * @throws {PreprocessingError} another file, a newer version, one that is cut short, or of another model.
 */
export function readGallery(content, bundle) {
  const view = new DataView(content);
  const text = (at, length) => new TextDecoder("utf-8").decode(new Uint8Array(content, at, length));
  const expect = (holds, message) => {
    if (!holds) throw new PreprocessingError(message);
  };
  expect(content.byteLength >= HEADER && text(0, 8) === MAGIC,
    "This is no gallery.bin; `keras-transfer siamese gallery export GALLERY --to BUNDLE` makes one.");
  const [version, dimension, images, count, kind] = [8, 12, 16, 20, 24].map((at) => view.getUint32(at, true));
  expect(version <= VERSION,
    `The gallery has version ${version}; this file knows ${VERSION}. Use the one of the bundle.`);
  const weighted = kind === KINDS.indexOf("weighted_l1");
  const begin = HEADER + (weighted ? 4 * dimension : 0);
  const size = begin + 4 * count + 4 * images * dimension + view.getUint32(40, true);
  expect(kind < KINDS.length && content.byteLength === size,
    `The gallery is damaged: it has ${content.byteLength} bytes, and ${size} are expected.`);
  expect(text(48, 64) === bundle.training?.model,
    "The gallery holds embeddings of another model than the bundle's. Export the gallery of this model.");
  const counts = Array.from({ length: count }, (_, i) => view.getUint32(begin + 4 * i, true));
  expect(counts.reduce((sum, one) => sum + one, 0) === images, "The gallery is damaged: its counts do not fit.");
  const floats = (at, length) => Float32Array.from({ length }, (_, i) => view.getFloat32(at + 4 * i, true));
  const threshold = view.getFloat32(28, true);
  const rule = {
    kind: KINDS[kind],
    weights: weighted ? floats(HEADER, dimension) : null,
    bias: view.getFloat64(32, true),
    threshold: Number.isFinite(threshold) ? threshold : null,
  };
  const places = begin + 4 * count;
  const names = text(places + 4 * images * dimension, view.getUint32(40, true)).split("\0");
  const enrolled = [];
  counts.forEach((left, i) => {
    for (; left > 0; left -= 1) {
      enrolled.push({ name: names[i], embedding: floats(places + 4 * enrolled.length * dimension, dimension) });
    }
  });
  return { rule, enrolled };
}
