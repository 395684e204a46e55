/**
 * What a model's answer means: labels, masks, names. An ES module for browsers and Node, without dependencies.
 *
 *     classify(bundle, answer)                          // [{ index, label, value }, ...], best first
 *     mask(bundle, answer, width, height)               // Int32Array of class indices, at the image's own size
 *     match(bundle.notes.comparison, answer, enrolled)  // { name, best: [{ name, score }, ...] }, name null: unknown
 *
 * `bundle` is the parsed bundle.json, `answer` one image's output as numbers. A quantized output is first made into
 * numbers: (stored - zero point) * scale. Labels, order and masks are those of keras_transfer. Scores of match are sums
 * in another order: they agree to about 1e-6.
 */

import { Preprocessing, PreprocessingError } from "./preprocess.mjs";

const round = Math.fround; // the reference computes in single precision

/**
 * The classes of an image, best first; of equal ones the first. The `top` most probable; where labels are independent
 * of one another (multilabel), all that reach their thresholds, perhaps none; of a regression all values, in order.
 *
 * @throws {PreprocessingError} another number of answers than of labels, or one that is not finite.
 */
export function classify(bundle, answer, top = 3) {
  const { labels, notes = {}, output = {} } = bundle;
  if (answer.length !== labels.length || !Array.from(answer).every(Number.isFinite)) {
    throw new PreprocessingError(`${answer.length} numbers were given; ${labels.length} finite ones are expected, `
      + "one for each label.");
  }
  const rows = labels.map((label, index) => ({ index, label, value: round(answer[index]) }));
  if ((output.kind ?? "probabilities") !== "probabilities") return rows;
  rows.sort((a, b) => b.value - a.value || a.index - b.index);
  const { thresholds } = notes;
  if (!thresholds || Object.keys(thresholds).length === 0) return rows.slice(0, top);
  return rows.filter(({ label, value }) => value >= round(thresholds[label]));
}

/**
 * Class indices of every pixel of an image, row by row. Probabilities are interpolated between the model's pixels; what
 * a crop cut off gets the ignore index.
 *
 * @param {object} bundle of a segmentation model.
 * @param {Float32Array} answer (H, W, C), the model's output.
 * @param {number} width of the image, upright; likewise height.
 */
export function mask(bundle, answer, width, height) {
  const preprocessing = Preprocessing.of(bundle);
  const classes = bundle.labels.length;
  const cells = preprocessing.width * classes;
  if (answer.length !== preprocessing.height * cells) {
    throw new PreprocessingError(`${answer.length} numbers were given; ${preprocessing.height} x `
      + `${preprocessing.width} x ${classes} are expected.`);
  }
  requireFinite(answer);
  const { ignore_index: ignored } = bundle.notes.classes;
  const seen = preprocessing.seen(width, height);
  const rows = between(height, seen.height, seen.rows);
  const columns = between(width, seen.width, seen.columns);
  const result = new Int32Array(width * height).fill(ignored);
  const line = new Float32Array(cells);
  for (let y = 0; y < height; y += 1) {
    if (!rows.known[y]) continue;
    const [above, below] = [rows.before[y] * cells, rows.after[y] * cells];
    const later = rows.share[y];
    const earlier = round(1 - later);
    for (let i = 0; i < cells; i += 1) line[i] = round(answer[above + i] * earlier) + round(answer[below + i] * later);
    for (let x = 0; x < width; x += 1) {
      if (!columns.known[x]) continue;
      const [left, right] = [columns.before[x] * classes, columns.after[x] * classes];
      const second = columns.share[x];
      const first = round(1 - second);
      let [best, chosen] = [-Infinity, 0];
      for (let i = 0; i < classes; i += 1) {
        const chance = round(round(line[left + i] * first) + round(line[right + i] * second));
        if (chance > best) [best, chosen] = [chance, i];
      }
      result[y * width + x] = chosen;
    }
  }
  return result;
}

function requireFinite(numbers) {
  if (!Array.from(numbers).every(Number.isFinite)) {
    throw new PreprocessingError("The model gives numbers that are not finite.");
  }
}

/** Of each pixel of a side: whether it was seen, the model's pixels before and after it, and the share of the later. */
function between(side, seen, [begin, count]) {
  const known = new Uint8Array(side);
  const before = new Int32Array(side);
  const after = new Int32Array(side);
  const share = new Float32Array(side);
  for (let i = 0; i < side; i += 1) {
    const centre = ((i + 0.5 - (side - seen) / 2) / seen) * count;
    known[i] = centre >= 0 && centre < count ? 1 : 0;
    const low = Math.min(Math.max(centre - 0.5, 0), count - 1);
    const floor = Math.floor(low);
    before[i] = begin + floor;
    after[i] = begin + Math.min(floor + 1, count - 1);
    share[i] = low - floor;
  }
  return { known, before, after, share };
}

/** How alike two embeddings are, higher for more; `rule` is "comparison" among the bundle's notes or the gallery's. */
export function alike(rule, a, b) {
  if (a.length !== b.length) {
    throw new PreprocessingError(`Embeddings of ${a.length} and of ${b.length} numbers cannot be compared.`);
  }
  requireFinite(a);
  requireFinite(b);
  const sum = (term) => a.reduce((total, _, i) => total + term(a[i], b[i], i), 0);
  if (rule.kind === "cosine") {
    const length = (v) => Math.max(Math.hypot(...v), 1e-12);
    return round(sum((x, y) => x * y) / length(a) / length(b));
  }
  if (rule.kind === "euclidean") return round(-Math.sqrt(sum((x, y) => (x - y) ** 2)));
  if (rule.kind === "weighted_l1") {
    const distance = sum((x, y, i) => Math.abs(x - y) * rule.weights[i]) - rule.bias;
    return round(1 / (1 + Math.exp(Math.min(60, Math.max(-60, distance)))));
  }
  throw new PreprocessingError(`The comparison "${rule.kind}" is not known to this file. Use the one of the bundle.`);
}

/**
 * Whom or what an embedding shows.
 *
 * @param {object} rule as in alike().
 * @param {Float32Array} query the model's output.
 * @param {Array} enrolled [{ name, embedding }, ...]: one or more of each name; its most alike one counts.
 * @param {number} threshold the least score of a match; by default the rule's.
 * @returns {object} name (null: unknown), and best: the `top` best names with their scores.
 */
export function match(rule, query, enrolled, threshold = rule.threshold, top = 3) {
  if (!Number.isFinite(threshold)) throw new PreprocessingError("No threshold was chosen for this model; give one.");
  if (enrolled.length === 0) throw new PreprocessingError("Nothing is enrolled.");
  if (!Array.from(query).every(Number.isFinite) || !query.some((x) => x !== 0)) {
    throw new PreprocessingError("The model gives no usable embedding.");
  }
  const scores = new Map();
  for (const { name, embedding } of enrolled) {
    scores.set(name, Math.max(alike(rule, query, embedding), scores.get(name) ?? -Infinity));
  }
  const best = [...scores].map(([name, score]) => ({ name, score }));
  best.sort((a, b) => b.score - a.score || (a.name < b.name ? -1 : 1));
  return { name: best[0].score >= round(threshold) ? best[0].name : null, best: best.slice(0, top) };
}
