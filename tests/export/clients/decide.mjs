// node decide.mjs CLIENT FOLDER WHAT [WIDTH HEIGHT]: numbers.bin (float32) of a bundle's folder through decide.mjs.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [client, folder, what, ...size] = process.argv.slice(2);
const { classify, mask, alike, match } = await import(pathToFileURL(client));
const { inputOf, Preprocessing } = await import(new URL("preprocess.mjs", pathToFileURL(client)));
const { readGallery } = await import(new URL("gallery.mjs", pathToFileURL(client)));
const bundle = JSON.parse(readFileSync(`${folder}/bundle.json`, "utf-8"));
const numbers = new Float32Array(Uint8Array.from(readFileSync(`${folder}/numbers.bin`)).buffer);
const levels = [...Array(256).keys()];
const half = numbers.length / 2;
const [query, other] = [numbers.subarray(0, half), numbers.subarray(half)];
const enrolled = [{ name: "b", embedding: other }, { name: "a", embedding: other }, { name: "c", embedding: query }];
const rule = bundle.notes?.comparison;

function ofGallery() {
  const gallery = readGallery(Uint8Array.from(readFileSync(`${folder}/gallery.bin`)).buffer, bundle);
  const { name, best } = match(gallery.rule, numbers, gallery.enrolled);
  return [name ?? "unknown", ...best.map((one) => `${one.name} ${one.score}`)];
}

function ofPicture([width, height, length]) {
  Preprocessing.of(bundle).apply({ data: new Uint8Array(length), width, height });
  return ["fine"];
}

const answers = {
  gallery: ofGallery,
  picture: () => ofPicture(size.map(Number)),
  classify: () => classify(bundle, numbers, 2).map(({ index, value }) => `${index} ${value}`),
  input: () => bundle.artefacts.flatMap(({ file }) => Array.from(inputOf(bundle, file, Uint8Array.from(levels)))),
  mask: () => Array.from(mask(bundle, numbers, ...size.map(Number))),
  alike: () => [alike(rule, query, other)],
  match: () => [match(rule, other, enrolled.slice(0, 2)).name, match(rule, query, enrolled, Number(size[0])).name],
};
try {
  console.log(answers[what]().join("\n"));
} catch (error) {
  console.log(`refused: ${error.message}`);
}
