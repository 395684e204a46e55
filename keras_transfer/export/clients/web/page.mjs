/**
 * The page of a bundle: photos to answers, and the proof, in this browser. It needs the bundle's files around it
 * (../../bundle.json), the modules in ../javascript, and LiteRT.js (see index.html). Nothing is sent anywhere.
 */

import { readGallery } from "../javascript/gallery.mjs";
import { Preprocessing, PreprocessingError, inputOf } from "../javascript/preprocess.mjs";
import * as show from "./answers.mjs";
import { lacks, megabytes, Model, PageError } from "./model.mjs";
import { canvasOf, decode, showsNothing, thumbnail } from "./photo.mjs";
import { GALLERY, modelsOf, prove } from "./proof.mjs";

const { element } = show;
const ROOT = new URL("../../", import.meta.url);
const find = (id) => document.getElementById(id);
const state = { bundle: null, preprocessing: null, gallery: null, model: null, photos: [], work: Promise.resolve() };

/** The content of a file of the bundle. */
async function read(name) {
  let response;
  try {
    response = await fetch(new URL(name.split("/").map(encodeURIComponent).join("/"), ROOT), { cache: "no-cache" });
  } catch {
    throw new PageError(`The server does not answer any more; ${name} was not read.`);
  }
  if (!response.ok) {
    throw new PageError(`The server has no ${name} (${response.status}). This page belongs into the folder clients/web `
      + "of a bundle that is served as a whole.");
  }
  return new Uint8Array(await response.arrayBuffer());
}

/** One thing after another; what goes wrong is said in the page. */
function then(task) {
  state.work = state.work.then(async () => {
    find("problem").textContent = "";
    try {
      await task();
    } catch (error) {
      if (!(error instanceof PageError || error instanceof PreprocessingError)) console.error(error);
      find("problem").textContent = error.message;
    }
    tell("");
  });
  return state.work;
}

function tell(text) {
  find("status").textContent = text;
}

async function open() {
  const missing = lacks();
  if (missing) throw new PageError(missing);
  const text = new TextDecoder().decode(await read("bundle.json"));
  let bundle;
  try {
    bundle = JSON.parse(text);
  } catch {
    throw new PageError("bundle.json is damaged: it is no JSON.");
  }
  state.preprocessing = Preprocessing.of(bundle);
  state.bundle = bundle;
  const { title, task, labels, preprocessing, keras_transfer: version, files } = bundle;
  const models = modelsOf(bundle);
  if (models.length === 0) throw new PageError("The bundle has no .tflite file, and this page runs no other.");
  document.title = title ?? document.title;
  find("title").textContent = title ?? task;
  const [height, width] = preprocessing.size;
  const outputs = show.kindOf(bundle) === "embedding" ? `${labels.length} numbers of likeness` : few(labels);
  find("summary").textContent = `${task}, ${width} x ${height} pixels: ${outputs}. It runs in this browser; no photo `
    + "leaves this device.";
  find("versions").textContent = `keras_transfer ${version}`;
  for (const one of bundle.artefacts.filter(({ file }) => models.includes(file))) {
    find("file").append(new Option(`${one.precision} (${one.file}, ${megabytes(one.bytes)})`, one.file));
  }
  find("ask").hidden = false;
  find("proof").hidden = false;
  if (show.kindOf(bundle) === "embedding") await openGallery(files);
  await choose();
}

function few(labels) {
  return labels.length <= 6 ? labels.join(", ") : `${labels.slice(0, 5).join(", ")} and ${labels.length - 5} more`;
}

async function openGallery(files) {
  find("comparison").hidden = false;
  const lacking = GALLERY in files ? "The gallery that the bundle carries cannot be used"
    : "The bundle carries no gallery of names";
  find("comparison").textContent = `${lacking}: photos are compared with one another. Open two or more.`;
  if (!(GALLERY in files)) return;
  state.gallery = readGallery((await read(GALLERY)).buffer, state.bundle);
  const names = new Set(state.gallery.enrolled.map(({ name }) => name));
  find("comparison").textContent = `Photos are compared with the gallery that the bundle carries: ${few([...names])}.`;
}

/** Load the chosen file, and ask it about the photos that are there. */
async function choose() {
  const file = find("file").value;
  tell(`Loading ${file} ...`);
  state.model?.close();
  state.model = null;
  state.model = await Model.open(state.bundle, file, read);
  for (const photo of state.photos) await answer(photo);
}

async function look(source, name) {
  if (!state.model) await choose();
  tell(`Looking at ${name} ...`);
  const decoding = performance.now();
  const picture = await decode(source, name);
  const preparing = performance.now();
  const pixels = state.preprocessing.apply(picture);
  const done = performance.now();
  const { height, width } = state.preprocessing;
  const seen = { data: pixels, width, height };
  const even = state.preprocessing.resize === "pad" || showsNothing(seen);
  if (show.kindOf(state.bundle) === "embedding" && even && showsNothing(picture)) {
    throw new PageError(`${name} is of one colour and shows nothing to compare.`);
  }
  const photo = {
    name,
    pixels,
    numbers: null,
    screen: await thumbnail(picture, name),
    told: element("div", ""),
    stack: element("div", "stack"),
    times: [`decoding ${milliseconds(preparing - decoding)}`, `pixels ${milliseconds(done - preparing)}`],
    clock: element("p", "hint"),
  };
  photo.stack.append(photo.screen);
  await answer(photo);
  const pixelsShown = canvasOf(seen, `What the model sees of ${name}`);
  pixelsShown.className = "pixels";
  const size = `${picture.width} x ${picture.height} pixels`;
  find("results").prepend(element("article", "", element("h3", "", name), photo.told,
    element("div", "pictures", element("figure", "", photo.stack, element("figcaption", "", size)),
      element("figure", "", pixelsShown, element("figcaption", "", `What the model sees: ${width} x ${height}`))),
    photo.clock));
  state.photos.push(photo);
}

const milliseconds = (time) => `${time.toFixed(1)} ms`;

async function answer(photo) {
  const found = await state.model.ask(inputOf(state.bundle, state.model.file, photo.pixels));
  photo.numbers = found.numbers;
  photo.told.dataset.numbers = Array.from(found.numbers.subarray(0, 1000)).join(" ");
  photo.told.replaceChildren(...shown(photo));
  const took = `model ${milliseconds(found.milliseconds)}`;
  photo.clock.textContent = [...photo.times, took, state.model.file].join(", ");
}

function shown(photo) {
  const { bundle, gallery, photos } = state;
  const { numbers } = photo;
  const kind = show.kindOf(bundle);
  if (kind === "mask") return areas(photo);
  if (kind === "embedding" && gallery) return [show.nameOf(gallery, numbers)];
  if (kind === "embedding") {
    const place = photos.indexOf(photo);
    return [show.likeness(bundle.notes.comparison, numbers, place < 0 ? photos : photos.slice(0, place))];
  }
  return [{ classes: show.classes, values: show.values, numbers: show.unknown }[kind](bundle, numbers)];
}

function areas(photo) {
  const { layer, legend } = show.areas(state.bundle, photo.numbers, photo.screen);
  photo.stack.replaceChildren(photo.screen, layer);
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: "0", max: "100", value: "50" });
  const paint = () => {
    layer.style.opacity = String(slider.value / 100);
  };
  slider.addEventListener("input", paint);
  paint();
  return [legend, element("p", "row", element("label", "row", "Colours ", slider))];
}

async function replay() {
  const focused = document.activeElement === find("prove");
  find("prove").disabled = true;
  find("verdict").replaceChildren();
  find("table").hidden = true;
  try {
    const begin = performance.now();
    const rows = await prove(state.bundle, state.preprocessing, read, tell);
    const wrong = rows.filter(({ passed }) => !passed).length;
    const left = rows.filter(({ leftOut }) => leftOut).length;
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    const told = wrong === 0
      ? `Passed: all ${rows.length - left} checks agree with the export${left ? `; left out: ${left}` : ""} (${seconds} s).`
      : `FAILED: ${wrong} of ${rows.length} checks differ from the export.`;
    find("verdict").replaceChildren(element("p", wrong === 0 ? "passed" : "failed", told));
    find("table").replaceChildren(tableOf(rows));
    find("table").hidden = false;
  } finally {
    find("prove").disabled = false;
    if (focused && document.activeElement === document.body) find("prove").focus();
  }
}

function tableOf(rows) {
  const heads = ["Check", "Result", "What was found"].map((text) => {
    const head = element("th", "", text);
    head.scope = "col";
    return head;
  });
  const body = rows.map(({ what, passed, leftOut, told }) => {
    const state = leftOut ? element("td", "state", "– left out")
      : element("td", `state ${passed ? "passed" : "failed"}`, passed ? "✓ passed" : "✗ FAILED");
    return element("tr", "", element("td", "what", what), state, element("td", "", told));
  });
  return element("table", "", element("thead", "", element("tr", "", ...heads)), element("tbody", "", ...body));
}

async function startCamera() {
  if (find("video").srcObject) return;
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new PageError("Browsers give the camera to pages of https or localhost alone. Phones offer theirs under "
      + "\"Open photos\", too.");
  }
  try {
    const video = { facingMode: "environment", width: { ideal: 1920 } };
    find("video").srcObject = await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    throw new PageError({
      NotAllowedError: "The camera was refused. Allow it for this page in the browser's settings, or open a photo.",
      NotFoundError: "This device has no camera that the browser knows. Open a photo instead.",
    }[error.name] ?? `The camera does not start: ${error.message}. Open a photo instead.`);
  }
  find("viewfinder").hidden = false;
  find("camera").disabled = true;
  await find("video").play();
  find("shoot").focus();
}

function stopCamera() {
  for (const track of find("video").srcObject?.getTracks() ?? []) track.stop();
  find("video").srcObject = null;
  find("viewfinder").hidden = true;
  find("camera").disabled = false;
  find("camera").focus();
}

/** Each file by itself: one that is no image keeps the others from nothing. */
async function lookAt(files) {
  const wrong = [];
  for (const file of files) {
    try {
      await look(file, file.name || "a pasted image");
    } catch (error) {
      if (!(error instanceof PageError || error instanceof PreprocessingError)) throw error;
      wrong.push(error.message);
    }
  }
  if (wrong.length > 0) throw new PageError(wrong.join(" "));
}

let pictures = 0;
find("photos").addEventListener("change", ({ target }) => {
  const files = [...target.files];
  target.value = ""; // the same photo can be opened again
  then(() => lookAt(files));
});
find("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  find("drop").classList.add("over");
});
find("drop").addEventListener("dragleave", () => find("drop").classList.remove("over"));
find("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  find("drop").classList.remove("over");
  const files = [...event.dataTransfer.files];
  then(() => {
    if (files.length === 0) throw new PageError("No file was dropped. Save the picture first, and drop the file.");
    return lookAt(files);
  });
});
// A file that is dropped beside the box would replace the page.
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
document.addEventListener("paste", ({ clipboardData }) => {
  const files = [...clipboardData.files];
  if (files.length > 0) then(() => lookAt(files));
});
find("file").addEventListener("change", () => then(choose));
find("prove").addEventListener("click", () => then(replay));
find("camera").addEventListener("click", () => then(startCamera));
find("stop").addEventListener("click", stopCamera);
find("shoot").addEventListener("click", () => then(() => look(find("video"), `Picture ${pictures += 1}`)));

await then(open);
document.body.dataset.ready = "";
