// node bench.mjs CLIENT PHOTO WIDTH HEIGHT SIZE RULE FILTER ORIENTATION TIMES: milliseconds of a core, a photo a line.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [client, photo, width, height, size, resize, interpolation, orientation, times] = process.argv.slice(2);
const { Preprocessing } = await import(pathToFileURL(client));
const preprocessing = new Preprocessing({ size: [Number(size), Number(size)], resize, interpolation });
const data = new Uint8ClampedArray(readFileSync(photo));
const picture = { data, width: Number(width), height: Number(height), orientation: Number(orientation) };
for (let i = 0; i < Number(times); i += 1) {
  const begin = process.cpuUsage();
  preprocessing.apply(picture);
  const { user, system } = process.cpuUsage(begin);
  console.log((user + system) / 1000);
}
