/**
 * From a decoded picture to the pixels the model was trained on: uint8 (height, width, 3), RGB in [0, 255].
 *
 * An ES module for browsers and Node, without dependencies. The result equals that of keras_transfer bit for bit, which
 * is what Pillow 13.0 computes on x86-64. For a bundle whose "versions" name Pillow 11 or 12 it equals that version's,
 * but for pictures more than 100 times as high as wide. selftest.mjs shows it with the bundle's golden images.
 *
 *     const preprocessing = Preprocessing.of(await (await fetch("bundle.json")).json());
 *     const pixels = preprocessing.apply(context.getImageData(0, 0, width, height));
 *
 * A canvas must hold the photo at its own size: what a browser scales has other pixels.
 *
 * Where the contract's "decode" is "scaled", keras_transfer decodes a JPEG of at least twice the size that is needed at
 * 1/2, 1/4 or 1/8 (libjpeg's own scaling): see jpegScale. Decoded whole, as browsers do it, its pixels differ from
 * those by about 0.25 of 255 on average, by rounding. Everything else is equal.
 */

const RULES = ["squash", "crop", "pad"];
const VERSION = 2;
const MOST_PIXELS = 178956970;
const MOST_SIDE = 16384;
const BITS = 22; // of a weight's fraction
const HALF = 1 << (BITS - 1);

/** What is wrong with a contract or a picture, in one sentence. */
export class PreprocessingError extends Error {}

// Each filter: its value at a distance from the centre, in pixels of the coarser grid, and the distance where it ends.
const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));
const FILTERS = {
  nearest: null,
  bilinear: { reach: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, at: cubicAt },
  area: { reach: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  lanczos: { reach: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Keys's cubic (a = -1/2). */
function cubicAt(signed) {
  const x = Math.abs(signed);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/**
 * What a model of the bundle takes: the pixels themselves, or as the numbers that its input asks for ("input_range").
 *
 * @param {object} bundle the parsed bundle.json.
 * @param {string} file a .tflite among its artefacts.
 * @param {Uint8Array} pixels as apply() gives them.
 * @returns {Uint8Array|Int8Array|Float32Array}
 * @throws {PreprocessingError} no such file.
 */
export function inputOf(bundle, file, pixels) {
  const found = bundle.artefacts.find((one) => one.file === file);
  const files = bundle.artefacts.map((one) => one.file).join(", ");
  expect(found, `The bundle has no model ${file}; expected one of ${files}.`);
  const [{ dtype, zero_point: zero }] = found.inputs;
  if (dtype === "int8") return Int8Array.from(pixels, (pixel) => pixel + zero);
  if (dtype !== "float32") return pixels; // whatever its scale is, its bytes are pixels
  const [low, high] = found.input_range ?? [0, 255];
  const std = 255 / (high - low);
  return Float32Array.from(pixels, (pixel) => (pixel + low * std) / std);
}

/** How a bundle makes pixels; made from the object "preprocessing" of its bundle.json. */
export class Preprocessing {
  /**
   * @param {object} contract "preprocessing" of bundle.json.
   * @param {string} pillow the version of Pillow whose pixels are made: "pillow" among the bundle's "versions".
   * @throws {PreprocessingError} a value that is not known here.
   */
  constructor(contract, pillow = "13.0.0") {
    const { size, resize = "squash", interpolation = "bilinear", antialias = true, decode = "full" } = contract;
    const { color = "rgb", value_range: range = [0, 255], version = 1 } = contract;
    const whole = (side) => Number.isInteger(side) && side >= 1 && side <= MOST_SIDE;
    expect(version <= VERSION, `The preprocessing has version ${version}; this file knows up to ${VERSION}. `
      + "Use the one of the bundle.");
    expect(Array.isArray(size) && size.length === 2 && size.every(whole),
      `The size is ${JSON.stringify(size)}; [height, width] is expected, each from 1 to ${MOST_SIDE}.`);
    expect(RULES.includes(resize), `The resize rule is "${resize}"; expected one of ${RULES.join(", ")}.`);
    expect(Object.hasOwn(FILTERS, interpolation),
      `The interpolation is "${interpolation}"; expected one of ${Object.keys(FILTERS).join(", ")}.`);
    expect(antialias === true || (antialias === false && !["area", "lanczos"].includes(interpolation)),
      `antialias is ${antialias}; expected true, or false with nearest, bilinear or bicubic.`);
    expect(["full", "scaled"].includes(decode), `decode is "${decode}"; expected "full" or "scaled".`);
    expect(color === "rgb" && range[0] === 0 && range[1] === 255, "RGB from 0 to 255 is expected.");
    [this.height, this.width] = size;
    Object.assign(this, { resize, interpolation, antialias, decode });
    this.tallFirst = Number.parseInt(pillow, 10) >= 13;
  }

  /**
   * @param {object} bundle the parsed bundle.json.
   * @throws {PreprocessingError} a bundle of a newer schema, or whose models take no images.
   */
  static of(bundle) {
    expect(bundle.schema <= 1,
      `bundle.json has schema ${bundle.schema}; this file knows 1. Use the one of the bundle.`);
    expect(bundle.input !== "numbers", "The models of this bundle take numbers, not images.");
    return new Preprocessing(bundle.preprocessing, bundle.versions?.pillow);
  }

  /**
   * The model's pixels.
   *
   * @param {object} picture an ImageData, or an object with the same fields and more:
   *   data: Uint8Array or Uint8ClampedArray of grey, RGB or RGBA bytes, row by row without gaps (transparent pixels
   *     come to lie on white); or a Uint16Array of 16-bit grey.
   *   width, height: of data, in pixels, as stored.
   *   orientation: EXIF's, 1 to 8; anything else is taken as 1, upright. A browser turns photos itself: then leave it.
   *   scale, fullWidth, fullHeight: for a JPEG that was decoded at 1/scale of its size: the file's own size, as stored.
   * @returns {Uint8Array} height * width * 3 bytes, row by row.
   * @throws {PreprocessingError} a picture of no size, or a buffer whose length does not fit.
   */
  apply(picture) {
    const rows = new Rows(picture);
    const { height, width } = this;
    const out = new Uint8ClampedArray(height * width * 3);
    const pads = this.resize === "pad";
    const [innerHeight, innerWidth] = pads ? this.#fit(rows.fullHeight, rows.fullWidth) : [height, width];
    const target = {
      height: innerHeight,
      width: innerWidth,
      first: 3 * (Math.floor((height - innerHeight) / 2) * width + Math.floor((width - innerWidth) / 2)),
      step: 3 * width,
      out,
    };
    const box = rows.box(this.#region(rows.fullHeight, rows.fullWidth));
    const single = box.map(Math.fround); // so are Pillow's boxes
    if (!this.antialias) this.#sample(rows, box, [box[2] - box[0], box[3] - box[1]], target);
    else if (this.interpolation === "nearest") {
      this.#sample(rows, single, [Math.fround(single[2] - single[0]), Math.fround(single[3] - single[1])], target);
    } else this.#resample(rows, single, target);
    return new Uint8Array(out.buffer);
  }

  /**
   * At which part of its size keras_transfer decodes a JPEG: 1 (all of it), 2, 4 or 8.
   *
   * @param {number} width of the file's pixels, as stored; likewise height.
   * @param {number} orientation EXIF's.
   */
  jpegScale(width, height, orientation = 1) {
    const weighs = ["bilinear", "bicubic", "lanczos"].includes(this.interpolation);
    if (this.decode === "full" || !this.antialias || !weighs) return 1;
    const [h, w] = orientation >= 5 && orientation <= 8 ? [width, height] : [height, width];
    const [rows, columns] = this.resize === "pad" ? this.#fit(h, w) : [this.height, this.width];
    return [8, 4, 2].find((scale) => h >= 2 * scale * rows && w >= 2 * scale * columns) ?? 1;
  }

  /**
   * What the model sees of an upright picture: so many of its pixels (height, width; fractions after a crop), on these
   * of the model's rows and columns: [first, count].
   */
  seen(width, height) {
    const crops = this.resize === "crop";
    const [innerHeight, innerWidth] = this.resize === "pad" ? this.#fit(height, width) : [this.height, this.width];
    return {
      height: crops ? Math.min(height, (width * this.height) / this.width) : height,
      width: crops ? Math.min(width, (height * this.width) / this.height) : width,
      rows: [Math.floor((this.height - innerHeight) / 2), innerHeight],
      columns: [Math.floor((this.width - innerWidth) / 2), innerWidth],
    };
  }

  /** The size a picture gets when it just fits in; rounded half up. */
  #fit(h, w) {
    const { height, width } = this;
    if (height * w >= width * h) return [Math.max(1, Math.floor((2 * h * width + w) / (2 * w))), width];
    return [height, Math.max(1, Math.floor((2 * w * height + h) / (2 * h)))];
  }

  /** [left, top, right, bottom] of what is seen of a picture. */
  #region(h, w) {
    const { height, width } = this;
    if (this.resize !== "crop") return [0, 0, w, h];
    if (height * w >= width * h) {
      const inner = (width * h) / height;
      const left = (w - inner) / 2;
      return [left, 0, Math.min(left + inner, w), h];
    }
    const inner = (height * w) / width;
    const top = (h - inner) / 2;
    return [0, top, w, Math.min(top + inner, h)];
  }

  /** Two passes of weighted sums, each rounded to bytes. */
  #resample(rows, [left, top, right, bottom], target) {
    const filter = FILTERS[this.interpolation];
    const across = weights(rows.width, left, right, target.width, filter);
    const down = weights(rows.height, top, bottom, target.height, filter);
    const [firstColumn, lastColumn] = across.used;
    const shrinks = rows.height - target.height;
    if (this.tallFirst && shrinks > 0 && shrinks > 2 * (rows.width - target.width)) {
      const line = new Uint8ClampedArray(3 * rows.width);
      const bytes = new Uint8Array(line.buffer);
      const sums = new Int32Array(3 * rows.width);
      for (let y = 0; y < target.height; y += 1) {
        sums.fill(HALF, 3 * firstColumn, 3 * lastColumn);
        for (let tap = down.first[y]; tap < down.first[y + 1]; tap += 1) {
          const [source, at] = rows.read(down.start[y] + tap - down.first[y], firstColumn, lastColumn);
          add(sums, 3 * firstColumn, 3 * lastColumn, source, at, down.weight[tap]);
        }
        for (let i = 3 * firstColumn; i < 3 * lastColumn; i += 1) line[i] = sums[i] >> BITS;
        squeeze(bytes, 0, across, target.out, target.first + y * target.step);
      }
      return;
    }
    const [firstRow, lastRow] = down.used;
    const length = 3 * target.width;
    const between = new Uint8ClampedArray((lastRow - firstRow) * length);
    for (let y = firstRow; y < lastRow; y += 1) {
      const [source, at] = rows.read(y, firstColumn, lastColumn);
      squeeze(source, at, across, between, (y - firstRow) * length);
    }
    const bytes = new Uint8Array(between.buffer);
    const sums = new Int32Array(length);
    for (let y = 0; y < target.height; y += 1) {
      sums.fill(HALF);
      for (let tap = down.first[y]; tap < down.first[y + 1]; tap += 1) {
        add(sums, 0, length, bytes, (down.start[y] + tap - down.first[y] - firstRow) * length, down.weight[tap]);
      }
      const place = target.first + y * target.step;
      for (let i = 0; i < length; i += 1) target.out[place + i] = sums[i] >> BITS;
    }
  }

  /** One value of the source, or a mixture of its neighbours, at the centre of each pixel. */
  #sample(rows, [left, top], [across, down], target) {
    const taps = { nearest: 1, bilinear: 2, bicubic: 4 }[this.interpolation];
    const columns = centres(left, across / target.width, target.width, rows.width, taps);
    const lines = centres(top, down / target.height, target.height, rows.height, taps);
    const seen = Array.from({ length: taps }, () => new Uint8Array(3 * rows.width));
    const values = new Float64Array(taps);
    for (let y = 0; y < target.height; y += 1) {
      for (let row = 0; row < taps; row += 1) {
        const [source, at] = rows.read(lines.place[y * taps + row], 0, rows.width);
        seen[row].set(source.subarray(at, at + 3 * rows.width));
      }
      for (let x = 0; x < target.width; x += 1) {
        for (let channel = 0; channel < 3; channel += 1) {
          for (let row = 0; row < taps; row += 1) {
            values[row] = mix((i) => seen[row][3 * columns.place[x * taps + i] + channel], taps, columns.share[x]);
          }
          const value = mix((i) => values[i], taps, lines.share[y]);
          target.out[target.first + y * target.step + 3 * x + channel] = Math.trunc(value);
        }
      }
    }
  }
}

/** The rows of a picture, upright and RGB, whatever it is stored as. */
class Rows {
  constructor({ data, width, height, channels, orientation = 1, scale = 1, fullWidth, fullHeight }) {
    expect(Number.isInteger(width) && Number.isInteger(height) && width >= 1 && height >= 1,
      `The picture is ${width} x ${height} pixels; whole numbers of at least 1 are expected.`);
    expect(width * height <= MOST_PIXELS,
      `The picture has ${width * height} pixels; at most ${MOST_PIXELS} are allowed.`);
    const deep = data instanceof Uint16Array;
    expect(deep || data instanceof Uint8Array || data instanceof Uint8ClampedArray,
      "The picture's data are no Uint8Array, Uint8ClampedArray or Uint16Array.");
    const count = channels ?? data.length / (width * height);
    expect((deep ? [1] : [1, 3, 4]).includes(count) && data.length === count * width * height,
      `The picture of ${width} x ${height} pixels has ${data.length} values; 1, 3 or 4 a pixel are expected, `
      + "of 16 bits 1.");
    expect([1, 2, 4, 8].includes(scale), `The scale is ${scale}; expected 1, 2, 4 or 8.`);
    const [wholeWidth, wholeHeight] = scale === 1 ? [width, height] : [fullWidth, fullHeight];
    expect(Math.ceil(wholeWidth / scale) === width && Math.ceil(wholeHeight / scale) === height,
      `${wholeWidth} x ${wholeHeight} pixels at 1/${scale} are not ${width} x ${height}.`);
    this.data = deep ? data : new Uint8Array(data.buffer, data.byteOffset, data.length);
    this.channels = count;
    this.deep = deep;
    const turned = orientation >= 5 && orientation <= 8;
    [this.width, this.height] = turned ? [height, width] : [width, height];
    [this.fullWidth, this.fullHeight] = turned ? [wholeHeight, wholeWidth] : [wholeWidth, wholeHeight];
    Object.assign(this, { orientation, scale });
    // Where the upright top left pixel is stored, and how far the next ones to the right and below are from it.
    const last = width * height - 1;
    const places = {
      2: [width - 1, -1, width],
      3: [last, -1, -width],
      4: [last - width + 1, 1, -width],
      5: [0, width, 1],
      6: [last - width + 1, -width, 1],
      7: [last, -width, -1],
      8: [width - 1, width, -1],
    };
    [this.origin, this.right, this.down] = places[orientation] ?? [0, 1, width];
    this.line = new Uint8Array(3 * this.width);
  }

  /** A region of the file's upright pixels in those of data: a scaled picture is filled up at the file's far edges. */
  box([left, top, right, bottom]) {
    const { scale } = this;
    const across = [2, 3, 6, 7].includes(this.orientation) ? this.width - this.fullWidth / scale : 0;
    const down = [3, 4, 7, 8].includes(this.orientation) ? this.height - this.fullHeight / scale : 0;
    return [across + left / scale, down + top / scale, across + right / scale, down + bottom / scale];
  }

  /** [bytes, place of column 0] of a row; columns outside [first, last) are not filled in. */
  read(y, first, last) {
    const { data, line, right } = this;
    let from = this.origin + y * this.down + first * right;
    if (this.channels === 3) {
      if (right === 1) return [data, 3 * (this.origin + y * this.down)];
      for (let to = 3 * first; to < 3 * last; to += 3, from += right) {
        line[to] = data[3 * from];
        line[to + 1] = data[3 * from + 1];
        line[to + 2] = data[3 * from + 2];
      }
    } else if (this.channels === 4) {
      for (let to = 3 * first; to < 3 * last; to += 3, from += right) {
        const alpha = data[4 * from + 3];
        if (alpha === 255) {
          line[to] = data[4 * from];
          line[to + 1] = data[4 * from + 1];
          line[to + 2] = data[4 * from + 2];
        } else {
          line[to] = onWhite(data[4 * from], alpha);
          line[to + 1] = onWhite(data[4 * from + 1], alpha);
          line[to + 2] = onWhite(data[4 * from + 2], alpha);
        }
      }
    } else {
      for (let to = 3 * first; to < 3 * last; to += 3, from += right) {
        const grey = this.deep ? Math.floor((data[from] + 128) / 257) : data[from];
        line[to] = grey;
        line[to + 1] = grey;
        line[to + 2] = grey;
      }
    }
    return [line, 0];
  }
}

function expect(holds, message) {
  if (!holds) throw new PreprocessingError(message);
}

/** A level under so much alpha, on white; rounded to the nearest level. */
function onWhite(level, alpha) {
  return Math.floor((2 * (level * alpha + 255 * (255 - alpha)) + 255) / 510);
}

/**
 * Of each target pixel along one axis: the first source pixel it sees (start), and the weights from there on:
 * weight[first[i]] up to weight[first[i + 1]], whole numbers of 2^-22. used: all source pixels that are seen.
 */
function weights(side, begin, end, count, { reach, at }) {
  const scale = Math.fround(end - begin) / count;
  const widened = Math.max(scale, 1);
  const support = reach * widened;
  const inverse = 1 / widened;
  const start = new Int32Array(count);
  const first = new Int32Array(count + 1);
  const weight = new Int32Array(count * (2 * Math.ceil(support) + 1));
  const exact = new Float64Array(2 * Math.ceil(support) + 1);
  let [least, most] = [side, 0];
  for (let i = 0; i < count; i += 1) {
    const centre = begin + (i + 0.5) * scale;
    const from = Math.max(0, Math.trunc(centre - support + 0.5));
    const taps = Math.min(side, Math.trunc(centre + support + 0.5)) - from;
    let total = 0;
    for (let tap = 0; tap < taps; tap += 1) {
      exact[tap] = at((tap + from - centre + 0.5) * inverse);
      total += exact[tap];
    }
    let place = first[i];
    let skipped = 0;
    for (let tap = 0; tap < taps; tap += 1) {
      const share = total === 0 ? exact[tap] : exact[tap] / total;
      const rounded = Math.trunc((share < 0 ? -0.5 : 0.5) + share * (1 << BITS));
      if (rounded === 0 && place === first[i]) skipped += 1;
      else weight[place++] = rounded;
    }
    while (place > first[i] && weight[place - 1] === 0) place -= 1;
    start[i] = from + skipped;
    first[i + 1] = place;
    if (place > first[i]) {
      least = Math.min(least, start[i]);
      most = Math.max(most, start[i] + place - first[i]);
    }
  }
  return { start, first, weight, used: [Math.min(least, most), most] };
}

/** One row's horizontal pass, into clamped bytes. */
function squeeze(row, at, { start, first, weight }, out, place) {
  const count = start.length;
  for (let x = 0, to = place; x < count; x += 1, to += 3) {
    let red = HALF;
    let green = HALF;
    let blue = HALF;
    const end = first[x + 1];
    for (let tap = first[x], from = at + 3 * start[x]; tap < end; tap += 1, from += 3) {
      const share = weight[tap];
      red = (red + Math.imul(row[from], share)) | 0;
      green = (green + Math.imul(row[from + 1], share)) | 0;
      blue = (blue + Math.imul(row[from + 2], share)) | 0;
    }
    out[to] = red >> BITS;
    out[to + 1] = green >> BITS;
    out[to + 2] = blue >> BITS;
  }
}

/** sums[i] += row[at + i] * share for i in [begin, end). */
function add(sums, begin, end, row, at, share) {
  for (let i = begin; i < end; i += 1) sums[i] = (sums[i] + Math.imul(row[at + i], share)) | 0;
}

/** Where each target pixel's centre lies in the source: the taps around it, kept inside, and the share of the later. */
function centres(begin, step, count, side, taps) {
  const place = new Int32Array(count * taps);
  const share = new Float64Array(count);
  let sum = begin + step * 0.5; // nearest adds up the steps, the others multiply
  for (let i = 0; i < count; i += 1) {
    const centre = taps === 1 ? sum : step * (i + 0.5) + begin - 0.5;
    sum += step;
    const before = Math.floor(centre);
    share[i] = centre - before;
    for (let tap = 0; tap < taps; tap += 1) {
      const shifted = before + tap - (taps === 4 ? 1 : 0);
      place[i * taps + tap] = Math.min(Math.max(shifted, 0), side - 1);
    }
  }
  return { place, share };
}

/** One, two (linear) or four values (cubic, cut to [0, 255] by what it is stored in), t after the middle one. */
function mix(value, taps, t) {
  const a = value(0);
  if (taps === 1) return a;
  const b = value(1);
  if (taps === 2) return a + (b - a) * t;
  const [c, d] = [value(2), value(3)];
  return b + t * (-a + c + t * (2 * (a - b) + c - d + t * (-a + b - c + d)));
}
