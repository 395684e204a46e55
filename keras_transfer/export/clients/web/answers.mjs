/** What a model answered, as elements of the page: probabilities, values, a mask, a name. */

import { alike, classify, mask, match } from "../javascript/decide.mjs";
import { colour, layerOf } from "./photo.mjs";

const MOST = 5; // classes that are shown
const round = Math.fround;

/** An element with a class and content: texts and other elements. */
export function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

/** Which of the ways below a bundle's answers are shown in. */
export function kindOf({ output, notes = {} }) {
  if (output.shape.length === 3 && notes.classes && output.kind === "probabilities") return "mask";
  if (output.shape.length !== 1) return "numbers";
  if (output.kind === "probabilities") return "classes";
  return output.kind === "embeddings" && notes.comparison ? "embedding" : "values";
}

/** The classes, best first, with their probabilities. */
export function classes(bundle, numbers) {
  const rows = classify(bundle, numbers, MOST);
  if (rows.length === 0) return element("p", "best", "No label reaches its threshold.");
  return element("ol", "", ...rows.map(({ label, value }, place) => bar(label, value, percent(value), place === 0)));
}

/** The values of a regression, or the numbers of what this page does not know. */
export function values(bundle, numbers) {
  const rows = classify(bundle, numbers, MOST).slice(0, 20);
  const list = element("ul", "", ...rows.map(({ label, value }) => element("li", "answer",
    element("span", "name", label), element("span", "bar"), element("span", "number", value.toPrecision(4)))));
  if (numbers.length > 20) list.append(element("li", "hint", `and ${numbers.length - 20} more`));
  return list;
}

/** What cannot be shown. */
export function unknown(bundle) {
  return element("p", "hint", `The model gives ${bundle.output.shape.join(" x ")} numbers, which this page does not `
    + "show. The golden images below prove them.");
}

/**
 * The colours of the classes for a photo, and which class has how much of it.
 *
 * @returns {object} layer: a canvas as large as the photo on the screen; legend: a list.
 */
export function areas(bundle, numbers, { width, height }) {
  const { ignore_index: ignored } = bundle.notes.classes;
  const found = mask(bundle, numbers, width, height);
  const counts = new Map();
  for (const index of found) if (index !== ignored) counts.set(index, (counts.get(index) ?? 0) + 1);
  const seen = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const total = seen.reduce((sum, [, count]) => sum + count, 0);
  const legend = element("ol", "", ...seen.map(([index, count], place) => {
    const row = bar(bundle.labels[index], count / total, percent(count / total), place === 0);
    const patch = element("span", "colour");
    patch.style.background = `rgb(${colour(index).join()})`;
    row.firstChild.prepend(patch);
    return row;
  }));
  return { layer: layerOf(found, ignored, width, height), legend };
}

/** Whom or what an embedding shows, by the names of a gallery. */
export function nameOf({ rule, enrolled }, numbers) {
  const known = Number.isFinite(rule.threshold);
  const { name, best } = match(rule, numbers, enrolled, known ? rule.threshold : Number.MAX_VALUE);
  const rows = best.map((one) => element("li", "answer", element("span", "name", one.name), element("span", "bar"),
    score(one.score)));
  const told = known ? name ?? "unknown" : "No threshold was chosen; the most alike:";
  return element("div", "", element("p", "best", told), element("ol", "", ...rows));
}

/** How alike a photo is to those before it. */
export function likeness(rule, numbers, earlier) {
  if (earlier.length === 0) return element("p", "hint", "The next photos are compared with this one.");
  return element("ul", "", ...earlier.map(({ name, numbers: other }) => {
    const found = alike(rule, numbers, other);
    const known = Number.isFinite(rule.threshold);
    const told = !known ? "" : found >= round(rule.threshold) ? "the same" : "different";
    return element("li", "answer", element("span", "name", name), element("span", "best", told), score(found));
  }));
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const score = (value) => element("span", "number", value.toFixed(3));

function bar(label, share, told, best) {
  const meter = element("meter", "bar");
  meter.value = share;
  meter.setAttribute("aria-hidden", "true"); // the number beside it says the same
  return element("li", best ? "answer best" : "answer", element("span", "name", label), meter,
    element("span", "number", told));
}
