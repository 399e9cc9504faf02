// The page of the server: a text goes out; labels and the view, or words for
// [MASK], come back.

const MOST_LABELS = 20;
const PAUSE = 1500; // milliseconds between two looks whether the server is back

const MASK = "[MASK]";

const settings = JSON.parse(document.getElementById("data").textContent);
const field = document.getElementById("text");
const status = document.getElementById("status");
const answer = document.getElementById("answer");
const view = document.getElementById("view");
let request = null; // the newest one's AbortController: an older is let go
let lastStatus = null;
let lastLabels = null;
let lastMasks = null;

/** The server refused, or could not be reached. */
class Refused extends Error {
  constructor(key, ...values) {
    super(key);
    this.said = [key, ...values];
  }
}

async function post(path, text, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text }),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("down");
  }
  const found = await response.json().catch(() => {
    throw new Refused("down");
  });
  if (response.ok) return found;
  if (response.status === 503) throw new Refused("busy");
  if (response.status === 413) throw new Refused("tooLong");
  throw new Refused("failed", found.error);
}

async function predict() {
  const text = field.value;
  request?.abort();
  request = new AbortController();
  const { signal } = request;
  if (!text.trim()) {
    tell("empty");
    field.focus();
    return;
  }
  if (settings.fills && !text.includes(MASK)) {
    tell("noMask");
    field.focus();
    return;
  }
  tell("working");
  try {
    if (settings.fills) {
      showMasks((await post("api/fill_mask", text, signal)).masks);
      tell("filled");
      return;
    }
    const found = await post("api/predict", text, signal);
    showLabels(found);
    tell("looking");
    view.setAttribute("aria-busy", "true");
    const seen = await post("api/attention", text, signal);
    await showView(view, seen);
    const [best, share] = sorted(found)[0];
    tell("answered", best, percent(share));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    tell(...error.said);
    if (error.said[0] === "down") await again(signal);
  } finally {
    if (!signal.aborted) view.setAttribute("aria-busy", "false");
  }
}

/** Waits until the server is back, and asks again. */
async function again(signal) {
  while (!signal.aborted) {
    await new Promise((wake) => setTimeout(wake, PAUSE));
    const there = await fetch("healthz", { signal }).then(
      (response) => response.ok,
      () => false,
    );
    if (there && !signal.aborted) {
      tell("back");
      await predict();
      return;
    }
  }
}

function tell(key, ...values) {
  lastStatus = key && [key, ...values];
  status.textContent = key ? said(key, ...values) : "";
  status.className = ["down", "busy", "tooLong", "failed", "empty", "noMask"].includes(key)
    ? "wrong"
    : "";
}

/** Labels with their probabilities, the likeliest first. */
function sorted(found) {
  return Object.entries(found.probabilities).sort((a, b) => b[1] - a[1]);
}

function showLabels(found) {
  lastLabels = found;
  const rows = sorted(found);
  const shown = bars(rows.slice(0, MOST_LABELS));
  shown.classList.add("first");
  const more = rows.length - MOST_LABELS;
  document
    .getElementById("labels")
    .replaceChildren(
      shown,
      ...(more > 0 ? [element("p", { class: "note" }, said("moreLabels", more))] : []),
    );
  answer.hidden = false;
}

/** For each mask its likeliest words and pieces, the likeliest first. */
function showMasks(masks) {
  lastMasks = masks;
  const kinds = (mask) => ["words", "pieces"].filter((kind) => mask[kind].length);
  document.getElementById("labels").replaceChildren(
    ...masks.flatMap((mask, i) => [
      ...(masks.length > 1 ? [element("h3", {}, said("mask", i + 1))] : []),
      ...kinds(mask).flatMap((kind) => [
        element("h4", {}, said(kind)),
        bars(mask[kind].map((found) => [found.text, found.probability])),
      ]),
    ]),
  );
  answer.hidden = false;
}

if (settings.fills) {
  // The texts of this page in the place of those of the page of labels.
  for (const key of ["title", "lead", "predict"]) {
    for (const node of document.querySelectorAll(`[data-text=${key}]`)) {
      node.dataset.text = `${key}Masks`;
    }
  }
}
document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  predict();
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) predict();
});
document.getElementById("examples").append(
  ...settings.examples.map((text) =>
    element(
      "button",
      {
        type: "button",
        class: "example",
        lang: "mn",
        onclick: () => {
          field.value = text;
          predict();
        },
      },
      text,
    ),
  ),
);
language.listeners.push(() => {
  if (lastStatus) tell(...lastStatus);
  if (lastLabels) showLabels(lastLabels);
  if (lastMasks) showMasks(lastMasks);
});
language.start();
