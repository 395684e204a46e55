/**
 * A bundle's `.tflite` in this browser: LiteRT.js, loaded once, and its answers as numbers.
 *
 * LiteRT.js is found by the import map of index.html. It runs on the processor (WebAssembly): what it computes is what
 * the golden images were measured for.
 */

export const MOST_BYTES = 400_000_000; // of a model file; a tab of a phone has little more
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98,
  11]; // a module with one instruction of SIMD

/** What keeps this page from working, in one sentence. */
export class PageError extends Error {}

/** What this browser lacks, in one sentence; empty where nothing is missing. */
export function lacks() {
  const simd = typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(SIMD));
  return simd ? "" : "This browser has no WebAssembly with SIMD, which LiteRT.js needs. A version of Chrome, Edge, "
    + "Firefox or Safari from 2023 or later has it.";
}

let runtime = null;

/** LiteRT.js, with threads where the server allows them (COOP and COEP). */
function litert() {
  runtime ??= load().catch((error) => {
    runtime = null; // it can be tried again
    throw error;
  });
  return runtime;
}

async function load() {
  const place = import.meta.resolve("@litertjs/core");
  let core;
  try {
    core = await import("@litertjs/core");
  } catch {
    throw new PageError(`LiteRT.js is not at ${new URL("../..", place).href}. Put a copy of the folder `
      + "node_modules/@litertjs there, under that name, or open the bundle with `keras-transfer serve`.");
  }
  const wasm = new URL("../wasm/", place);
  const threads = globalThis.crossOriginIsolated === true && wasm.origin === location.origin;
  try {
    await core.loadLiteRt(wasm.href, { threads });
  } catch (error) {
    try {
      if (!threads) throw error;
      await core.loadLiteRt(wasm.href); // threads need relaxed SIMD, too
    } catch (reason) {
      throw new PageError(`LiteRT.js does not start here: ${reason.message ?? `${wasm.href} is not complete`}.`);
    }
  }
  return core;
}

/** A model file that answers. */
export class Model {
  #core;
  #compiled;
  #artefact;

  /**
   * @param {object} bundle the parsed bundle.json.
   * @param {string} file one of its artefacts.
   * @param {function(string): Promise<Uint8Array>} read the content of a file of the bundle.
   * @throws {PageError} a file that is too large, or that LiteRT.js refuses.
   */
  static async open(bundle, file, read) {
    const artefact = bundle.artefacts.find((one) => one.file === file);
    if (artefact.bytes > MOST_BYTES) {
      throw new PageError(`${file} has ${megabytes(artefact.bytes)}; this page loads up to ${megabytes(MOST_BYTES)}. `
        + "Choose a smaller file.");
    }
    const core = await litert();
    const content = await read(file);
    const model = new Model();
    model.#core = core;
    model.#artefact = artefact;
    try {
      model.#compiled = await core.loadAndCompile(content, { accelerator: "wasm" });
    } catch (error) {
      throw new PageError(`LiteRT.js cannot load ${file}: ${error.message ?? error}.`);
    }
    return model;
  }

  /**
   * @param {Uint8Array|Int8Array|Float32Array} input as inputOf makes it of pixels.
   * @returns {Promise<object>} numbers: Float32Array, one image's output; milliseconds: of the model alone.
   */
  async ask(input) {
    const [{ dtype, shape }] = this.#compiled.getInputDetails();
    const given = dtype === "float32" ? Float32Array.from(input) : input;
    const tensor = new this.#core.Tensor(given, [1, ...Array.from(shape).slice(1)]);
    let answers = [];
    try {
      const begin = performance.now();
      answers = await this.#compiled.run([tensor]);
      const stored = await answers[0].data();
      const milliseconds = performance.now() - begin;
      const { dtype: kind, scale, zero_point: zero } = this.#artefact.outputs[0];
      const numbers = kind.startsWith("float") ? Float32Array.from(stored)
        : Float32Array.from(stored, (value) => (value - zero) * scale);
      return { numbers, milliseconds };
    } finally {
      for (const one of [tensor, ...answers]) one.delete();
    }
  }

  /** The file's name. */
  get file() {
    return this.#artefact.file;
  }

  /** Gives its memory back. */
  close() {
    this.#compiled.delete();
  }
}

/** Bytes for people. */
export function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
