// node driver.mjs CLIENT CASES RESULTS: every case through the JavaScript client; helpers_clients.py tells the format.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [client, cases, results] = process.argv.slice(2);
const { Preprocessing } = await import(pathToFileURL(client));
const content = readFileSync(cases);
const FIELDS = 14;
const answers = [];
for (let at = 0; at < content.length; ) {
  const head = Array.from({ length: FIELDS }, (_, i) => content.readInt32LE(at + 4 * i));
  const [height, width, rule, filter, antialias, decode, pillow, w, h, format, orientation, scale, fw, fh] = head;
  at += 4 * FIELDS;
  const bytes = content.subarray(at, at + w * h * [1, 3, 4, 2][format]);
  at += bytes.length;
  const contract = {
    size: [height, width],
    resize: ["squash", "crop", "pad"][rule],
    interpolation: ["nearest", "bilinear", "bicubic", "area", "lanczos"][filter],
    antialias: antialias === 1,
    decode: ["full", "scaled"][decode],
    color: "rgb",
    value_range: [0.0, 255.0],
    version: 1,
  };
  const preprocessing = new Preprocessing(contract, `${pillow}.0.0`);
  const data = format === 3 ? new Uint16Array(Uint8Array.from(bytes).buffer) : new Uint8ClampedArray(bytes);
  const pixels = preprocessing.apply({ data, width: w, height: h, orientation, scale, fullWidth: fw, fullHeight: fh });
  const denominator = Buffer.alloc(4);
  denominator.writeInt32LE(preprocessing.jpegScale(fw, fh, orientation));
  answers.push(denominator, pixels);
}
writeFileSync(results, Buffer.concat(answers));
