// A .tflite in LiteRT.js under Node:  node litert_js.mjs NODE_MODULES MODEL INPUTS
//
// INPUTS holds the images' numbers, one image after another, as the model takes them. Prints one JSON object: the input's
// shape and type, and the answers, an array for each image.
//
// LiteRT.js is made for browsers: it loads its WebAssembly by a <script> or by importScripts, neither of which Node has.
// The module inside does run in Node, so importScripts is given here.
import fs from 'node:fs';
import path from 'node:path';
import {createRequire} from 'node:module';
import {pathToFileURL} from 'node:url';

const [modules, file, inputs] = process.argv.slice(2);
const folder = path.join(path.resolve(modules), '@litertjs', 'core');
globalThis.self = globalThis;
globalThis.importScripts = (script) => {
  const source = fs.readFileSync(script, 'utf8') + '\nreturn ModuleFactory;';
  const require = createRequire(script);
  globalThis.ModuleFactory = new Function('require', '__dirname', '__filename', source)(
      require, path.dirname(script), script);
};
console.warn = () => {};  // there is no WebGPU, and it says so

const {loadLiteRt, loadAndCompile, Tensor} = await import(pathToFileURL(path.join(folder, 'dist', 'index.js')));
await loadLiteRt(path.join(folder, 'wasm') + path.sep);
const model = await loadAndCompile(new Uint8Array(fs.readFileSync(file)), {accelerator: 'wasm'});
const [input] = model.getInputDetails();
const shape = [...input.shape];
const size = shape.slice(1).reduce((a, b) => a * b, 1);
const Numbers = {float32: Float32Array, uint8: Uint8Array}[input.dtype];
const bytes = fs.readFileSync(inputs);
const numbers = new Numbers(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
const answers = [];
for (let start = 0; start < numbers.length; start += size) {
  const [answer] = await model.run([new Tensor(numbers.slice(start, start + size), [1, ...shape.slice(1)])]);
  answers.push([...await answer.data()]);
}
fs.writeSync(1, JSON.stringify({shape, dtype: input.dtype, answers}) + '\n');
