/**
 * Photos and canvases: from a file or a video to the pixels as they are stored, and back onto the screen.
 *
 * The browser decodes and turns a photo; it must not scale it, and colour profiles are left out, as in training. The
 * canvas that pixels are read from is a strip: a whole camera photo is more than some phones give one canvas.
 */

import { PageError } from "./model.mjs";

const STRIP = 2 ** 21; // pixels at a time
const WIDEST = 480; // of a photo on the screen

/**
 * @param {Blob|HTMLVideoElement} source an image file, or a camera that runs.
 * @param {string} name for messages.
 * @returns {Promise<object>} data: Uint8ClampedArray RGBA, width, height.
 * @throws {PageError} a file that is no image.
 */
export async function decode(source, name) {
  let bitmap;
  try {
    if (source instanceof Blob && source.size === 0) throw new PageError("empty");
    bitmap = await createImageBitmap(source, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new PageError(`${name} is no image that this browser can read. JPEG, PNG and WebP are.`);
  }
  try {
    return pixelsOf(bitmap, name);
  } finally {
    bitmap.close();
  }
}

function pixelsOf(bitmap, name) {
  const { width, height } = bitmap;
  let data;
  try {
    data = new Uint8ClampedArray(4 * width * height);
  } catch {
    throw new PageError(`${name} has ${width} x ${height} pixels, more than this browser has memory for.`);
  }
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = Math.min(height, Math.max(1, Math.floor(STRIP / width)));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (let top = 0; top < height; top += canvas.height) {
    const rows = Math.min(canvas.height, height - top);
    context.clearRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, top, width, rows, 0, 0, width, rows);
    data.set(context.getImageData(0, 0, width, rows).data, 4 * width * top);
  }
  return { data, width, height };
}

/** A canvas with RGB or RGBA bytes. */
export function canvasOf({ data, width, height }, label) {
  const rgba = new ImageData(width, height);
  const channels = data.length / (width * height);
  for (let i = 0; i < width * height; i += 1) {
    for (let channel = 0; channel < 3; channel += 1) rgba.data[4 * i + channel] = data[channels * i + channel];
    rgba.data[4 * i + 3] = channels === 4 ? data[4 * i + 3] : 255;
  }
  const canvas = labelled(width, height, label);
  canvas.getContext("2d").putImageData(rgba, 0, 0);
  return canvas;
}

/** A photo, small enough for the screen. What the model sees is made from the photo itself. */
export async function thumbnail({ data, width, height }, label) {
  const share = Math.min(1, WIDEST / width, WIDEST / height);
  const canvas = labelled(Math.max(1, Math.round(width * share)), Math.max(1, Math.round(height * share)), label);
  const bitmap = await createImageBitmap(new ImageData(data, width, height));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

function labelled(width, height, label) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  return canvas;
}

/** The colour of a class: hues far from one another, red, green and blue in [0, 255]. */
export function colour(index) {
  const hue = (index * 137.508 + 10) % 360;
  const light = [0.55, 0.4, 0.7][index % 3];
  const reach = 0.75 * Math.min(light, 1 - light);
  return [0, 8, 4].map((n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (light - reach * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

/** A layer of the classes' colours for a photo on the screen, pixel by pixel; what is ignored stays clear. */
export function layerOf(classes, ignored, width, height) {
  const paint = new ImageData(width, height);
  classes.forEach((index, place) => {
    if (index !== ignored) paint.data.set([...colour(index), 255], 4 * place);
  });
  const layer = document.createElement("canvas");
  Object.assign(layer, { width, height });
  layer.setAttribute("aria-hidden", "true");
  layer.getContext("2d").putImageData(paint, 0, 0);
  return layer;
}

/** Whether a picture is of one even colour: there is nothing in it to compare. */
export function showsNothing({ data, width, height }) {
  const channels = data.length / (width * height);
  for (let channel = 0; channel < 3; channel += 1) {
    let [least, most] = [255, 0];
    for (let i = channel; i < data.length; i += channels) {
      least = Math.min(least, data[i]);
      most = Math.max(most, data[i]);
    }
    if (most - least >= 3) return false;
  }
  return true;
}
