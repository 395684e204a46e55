/**
 * The gallery that a bundle of embeddings may carry: names and embeddings, read from its SQLite file.
 *
 * Only what such a file needs is read: tables of one file without indexes, https://www.sqlite.org/fileformat.html.
 */

import { PageError } from "./model.mjs";

export const GALLERY = "gallery.sqlite";
const APPLICATION = 0x4b545347;

/**
 * @param {Uint8Array} content of gallery.sqlite.
 * @param {object} bundle the parsed bundle.json.
 * @returns {object} rule: how embeddings are compared; enrolled: [{ name, embedding }, ...].
 * @throws {PageError} a file that is damaged, of another schema, or of another model.
 */
export function readGallery(content, bundle) {
  let tables;
  try {
    tables = new Tables(content);
    const [[text, checksum]] = tables.rows("gallery");
    if (crc32(encoded(text)) !== checksum) throw new PageError("what it is bound to is not what was written");
    const { identity, comparison, dimension } = JSON.parse(text);
    if (identity.model !== bundle.training?.model) {
      throw new PageError(`it holds embeddings of another model, ${identity.name}`);
    }
    const enrolled = tables.rows("entries").map(([, name, , file, sha256, values, sum, created]) => {
      const told = encoded(`${name}\0${file}\0${sha256}\0${created}\0`);
      if (values.length !== 4 * dimension || crc32(values, crc32(told)) !== sum) {
        throw new PageError(`an embedding of ${name} is not what was written`);
      }
      const view = new DataView(values.buffer, values.byteOffset, values.length);
      return { name, embedding: Float32Array.from({ length: dimension }, (_, i) => view.getFloat32(4 * i, true)) };
    });
    return { rule: comparison, enrolled };
  } catch (error) {
    throw new PageError(`The bundle's ${GALLERY} cannot be used: ${error.message}.`);
  }
}

const encoded = (text) => new TextEncoder().encode(text);

/** The tables of an SQLite file. */
class Tables {
  constructor(content) {
    this.content = content;
    this.view = new DataView(content.buffer, content.byteOffset, content.length);
    const magic = new TextDecoder().decode(content.subarray(0, 15));
    if (magic !== "SQLite format 3") throw new PageError("it is no SQLite file");
    if (this.view.getUint32(68) !== APPLICATION || this.view.getUint32(60) !== 1) {
      throw new PageError("it is no gallery of schema 1");
    }
    const size = this.view.getUint16(16);
    this.page = size === 1 ? 65536 : size;
    this.usable = this.page - content[20];
    this.roots = new Map(this.#records(1).map(([type, name, , root]) => [`${type} ${name}`, root]));
  }

  /** The rows of a table: arrays of its columns; the key, which stands beside the row, in its place. */
  rows(name) {
    const root = this.roots.get(`table ${name}`);
    if (!root) throw new PageError(`it has no table ${name}`);
    return this.#records(root);
  }

  #records(page, found = []) {
    const start = (page - 1) * this.page;
    const head = page === 1 ? start + 100 : start;
    const [kind, cells] = [this.content[head], this.view.getUint16(head + 3)];
    if (kind !== 5 && kind !== 13) throw new PageError("a page of it is damaged");
    const first = head + (kind === 5 ? 12 : 8);
    for (let i = 0; i < cells; i += 1) {
      const at = start + this.view.getUint16(first + 2 * i);
      if (kind === 5) this.#records(this.view.getUint32(at), found);
      else found.push(this.#record(at));
    }
    if (kind === 5) this.#records(this.view.getUint32(head + 8), found);
    return found;
  }

  #record(at) {
    const [length, afterLength] = varint(this.content, at);
    const [, place] = varint(this.content, afterLength); // the row's number
    const payload = this.#payload(place, length);
    const [end, firstType] = varint(payload, 0);
    const values = [];
    let [next, body] = [firstType, end];
    while (next < end) {
      let type;
      [type, next] = varint(payload, next);
      const size = type < 12 ? [0, 1, 2, 3, 4, 6, 8, 8, 0, 0][type] : (type - (type % 2 ? 13 : 12)) / 2;
      const bytes = payload.subarray(body, body + size);
      body += size;
      if (type === 0) values.push(null);
      else if (type < 7) values.push(bytes.reduce((sum, byte) => sum * 256 + byte, 0));
      else if (type < 12) values.push(type === 9 ? 1 : 0);
      else values.push(type % 2 ? new TextDecoder("utf-8", { fatal: true }).decode(bytes) : bytes);
    }
    return values;
  }

  /** A row's bytes; what does not fit its page lies in a chain of others. */
  #payload(place, length) {
    const most = this.usable - 35;
    if (length <= most) return this.content.slice(place, place + length);
    const least = Math.floor(((this.usable - 12) * 32) / 255) - 23;
    const surplus = least + ((length - least) % (this.usable - 4));
    const local = surplus <= most ? surplus : least;
    const result = new Uint8Array(length);
    result.set(this.content.subarray(place, place + local));
    let page = this.view.getUint32(place + local);
    for (let filled = local; filled < length; filled += this.usable - 4) {
      const start = (page - 1) * this.page;
      result.set(this.content.subarray(start + 4, start + 4 + Math.min(this.usable - 4, length - filled)), filled);
      page = this.view.getUint32(start);
    }
    return result;
  }
}

/** A number of one to nine bytes (none of ours is longer than seven), and the place after it. */
function varint(bytes, at) {
  let [value, place] = [0, at];
  do {
    value = value * 128 + (bytes[place] & 127);
    place += 1;
  } while (bytes[place - 1] & 128 && place - at < 9);
  return [value, place];
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit += 1) rest = rest & 1 ? (rest >>> 1) ^ 0xedb88320 : rest >>> 1;
  return rest;
});

/** As zlib computes it; `start`: of what stands before. */
function crc32(bytes, start = 0) {
  let rest = ~start;
  for (const byte of bytes) rest = (rest >>> 8) ^ CRC[(rest ^ byte) & 255];
  return ~rest >>> 0;
}
