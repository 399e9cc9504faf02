// The attention view: attribution, all heads in small, one head word by word.

const MOST_LINES = 1200; // more of them are one grey surface
const MOST_LINED = 60; // words; longer texts are shown as text at first
const THUMBNAIL = 64; // pixels at most, to either side
const STRONGEST = 6; // entries of the list under a chosen word
const ROW = 26; // pixels between two words of the lines

/** Attention of all heads, as the page holds it. */
class Attention {
  constructor(data, levels, scales) {
    Object.assign(this, { data, levels, scales });
  }

  static async unpacked(data) {
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes(data.levels)])
      .stream()
      .pipeThrough(new DecompressionStream("deflate"));
    const levels = new Uint8Array(await new Response(stream).arrayBuffer());
    const view = new DataView(bytes(data.scales).buffer);
    const scales = Float64Array.from(
      { length: view.byteLength / 2 },
      (_, row) => view.getUint16(2 * row, true) / 65535,
    );
    return new Attention(data, levels, scales);
  }

  /** What one piece takes from another, rounded. */
  at(layer, head, from, to) {
    const row = (layer * this.data.heads + head) * this.data.length + from;
    return (this.levels[row * this.data.length + to] / 255) * this.scales[row];
  }

  /** A head's rows: of pieces, or joined to words, whose rows sum to 1 too. */
  matrix(layer, head, joined) {
    const { length, words, wordTexts } = this.data;
    const size = joined ? wordTexts.length : length;
    const rows = Array.from({ length: size }, () => new Float64Array(size));
    const sizes = new Float64Array(size);
    for (let from = 0; from < length; from++) {
      const row = rows[joined ? words[from] : from];
      sizes[joined ? words[from] : from]++;
      for (let to = 0; to < length; to++) {
        row[joined ? words[to] : to] += this.at(layer, head, from, to);
      }
    }
    rows.forEach((row, from) => row.forEach((v, to) => (row[to] = v / sizes[from])));
    return rows;
  }
}

/** Shows an explanation in a container, and again in another language. */
async function showView(container, data) {
  if (!("DecompressionStream" in window)) {
    container.replaceChildren(element("p", { role: "alert" }, said("noStream")));
    return;
  }
  const view = new View(container, await Attention.unpacked(data));
  view.draw();
  language.listeners = language.listeners.filter((f) => !f.isView);
  const again = () => view.draw();
  again.isView = true;
  language.listeners.push(again);
}

class View {
  constructor(container, attention) {
    Object.assign(this, { container, attention, data: attention.data });
    this.layer = 0;
    this.head = 0;
    this.direction = "from";
    this.joined = false;
    this.chosen = null;
    this.hovered = null;
    this.shown = this.data.length > MOST_LINED ? "text" : "lines";
  }

  /** The words or pieces that are shown: text, and whether one goes on. */
  units() {
    const { pieces, words, wordTexts } = this.data;
    if (this.joined) return wordTexts.map((text) => ({ text, goesOn: false }));
    return pieces.map((piece, i) => {
      const goesOn = i > 0 && words[i] === words[i - 1];
      // "▁" before a word is SentencePiece's, "##" inside one WordPiece's.
      const text = piece.replace(goesOn ? /^##/ : /^▁/, "") || "▁";
      return { text: goesOn ? `·${text}` : text, goesOn };
    });
  }

  draw() {
    this.spoke = element("section", { class: "card" });
    this.one = element("section", { class: "card", id: "one-head" });
    this.container.replaceChildren(
      ...(this.data.answer ? [this.spoke] : []),
      this.overview(),
      this.one,
    );
    this.drawUnits();
  }

  drawUnits() {
    if (this.data.answer) this.drawAttribution();
    this.drawHead();
  }

  // Attribution.

  attribution() {
    const parts = this.data.answer.attribution;
    if (!this.joined) return parts;
    const sums = this.data.wordTexts.map(() => 0);
    parts.forEach((part, i) => (sums[this.data.words[i]] += part));
    return sums;
  }

  drawAttribution() {
    const { answer } = this.data;
    const parts = this.attribution();
    const most = Math.max(...parts.map(Math.abs)) || 1;
    const units = this.units();
    const text = element("p", { class: "flow" });
    units.forEach((unit, i) => {
      const kind = parts[i] < 0 ? "against" : "for";
      const shown = element(
        "span",
        { class: `unit ${kind}`, title: signed(parts[i]) },
        unit.text,
      );
      shown.style.setProperty("--share", Math.abs(parts[i]) / most);
      text.append(unit.goesOn ? "" : " ", shown);
    });
    const sorted = units
      .map((unit, i) => [unit.text, parts[i]])
      .sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
    const open = this.spoke.querySelector("details")?.open;
    this.spoke.replaceChildren(
      element("h2", {}, said("spoke", answer.label)),
      text,
      element(
        "p",
        { class: "legend" },
        element("span", { class: "unit for key" }, said("forIt")),
        element("span", { class: "unit against key" }, said("againstIt")),
      ),
      element(
        "details",
        { ...(open && { open: "" }) },
        element("summary", {}, said("howCounted")),
        element("p", {}, said("method", answer)),
        table([said("part"), said("adds")], sorted.map(([a, b]) => [a, signed(b)])),
      ),
    );
    if (answer.grams.length) this.spoke.append(this.grams());
    const unread = this.unread();
    if (unread) this.spoke.append(element("p", { class: "note" }, unread));
  }

  // What of the text is not shown; "" where all of it is.
  unread() {
    const { cut, windows } = this.data;
    if (windows > 1) return said("windows", windows);
    return cut ? said("cut", cut) : "";
  }

  /** What the n-grams of the TF-IDF baseline added, the largest first. */
  grams() {
    const { grams, gramsTogether } = this.data.answer;
    return element(
      "section",
      { class: "grams" },
      element("h3", {}, said("grams")),
      element("p", { class: "note" }, said("gramsHint", signed(gramsTogether))),
      table([said("gram"), said("adds")], grams.map(([a, b]) => [a, signed(b)])),
    );
  }

  // All heads.

  overview() {
    const { layers, heads, kept, share, answer } = this.data;
    this.buttons = [];
    const grid = element("div", {
      class: "grid",
      role: "group",
      "aria-label": said("overview"),
      onkeydown: (event) => this.move(event),
    });
    grid.style.setProperty("--heads", heads);
    grid.append(element("span", { "aria-hidden": "true" }));
    for (let head = 0; head < heads; head++) {
      grid.append(element("span", { "aria-hidden": "true" }, head + 1));
    }
    for (let layer = 0; layer < layers; layer++) {
      grid.append(element("span", { "aria-hidden": "true" }, layer + 1));
      for (let head = 0; head < heads; head++) {
        const button = element(
          "button",
          {
            type: "button",
            class: "head",
            "aria-label": said("place", layer + 1, head + 1),
            title: said("place", layer + 1, head + 1),
            onclick: () => this.choose(layer, head),
          },
          this.thumbnail(layer, head),
        );
        this.buttons.push(button);
        grid.append(button);
      }
    }
    const notes = [said("rounded")];
    if (kept) notes.push(said("kept", kept, percent(share)));
    if (this.unread() && !answer) notes.push(this.unread());
    return element(
      "section",
      { class: "card" },
      element("h2", {}, said("attention")),
      element("h3", {}, said("overview")),
      element("p", { class: "note" }, said("overviewHint")),
      element("div", { class: "scroll" }, grid),
      element("p", { class: "note" }, notes.join(" ")),
    );
  }

  thumbnail(layer, head) {
    const { length } = this.data;
    const step = Math.ceil(length / THUMBNAIL);
    const size = Math.ceil(length / step);
    const canvas = element("canvas", { width: size, height: size });
    const context = canvas.getContext("2d");
    const image = context.createImageData(size, size);
    for (let from = 0; from < length; from++) {
      for (let to = 0; to < length; to++) {
        const place = 4 * (Math.floor(from / step) * size + Math.floor(to / step));
        // The root, so that small shares show; a pixel is its strongest entry.
        const shade = 255 * Math.sqrt(this.attention.at(layer, head, from, to));
        if (shade > image.data[place + 3]) image.data[place + 3] = shade;
      }
    }
    const [red, green, blue] = inkOf(this.container);
    for (let i = 0; i < image.data.length; i += 4) {
      image.data[i] = red;
      image.data[i + 1] = green;
      image.data[i + 2] = blue;
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  move(event) {
    const { layers, heads } = this.data;
    const steps = {
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
    }[event.key];
    if (!steps) return;
    event.preventDefault();
    const layer = Math.min(layers - 1, Math.max(0, this.layer + steps[0]));
    const head = Math.min(heads - 1, Math.max(0, this.head + steps[1]));
    this.choose(layer, head);
    this.buttons[layer * heads + head].focus();
  }

  choose(layer, head) {
    this.layer = layer;
    this.head = head;
    this.drawHead();
  }

  // One head.

  drawHead() {
    const { heads } = this.data;
    this.buttons.forEach((button, i) => {
      const here = i === this.layer * heads + this.head;
      button.setAttribute("aria-pressed", here);
      button.tabIndex = here ? 0 : -1;
    });
    this.rows = this.attention.matrix(this.layer, this.head, this.joined);
    this.body = element("div", { class: "body" });
    this.list = element("div", { class: "strongest", "aria-live": "polite" });
    const focused = document.activeElement?.id;
    this.one.replaceChildren(
      element("h3", {}, said("place", this.layer + 1, this.head + 1)),
      this.controls(),
      element("div", { class: "side-by-side" }, this.body, this.list),
    );
    if (focused) document.getElementById(focused)?.focus();
    this.drawBody();
  }

  controls() {
    const { layers, heads } = this.data;
    const many = (count) => Array.from({ length: count }, (_, i) => [i, i + 1]);
    return element(
      "div",
      { class: "controls" },
      select("layer", said("layer"), many(layers), this.layer, (v) =>
        this.choose(Number(v), this.head),
      ),
      select("head", said("head"), many(heads), this.head, (v) =>
        this.choose(this.layer, Number(v)),
      ),
      select(
        "direction",
        said("direction"),
        ["from", "to"].map((v) => [v, said(v)]),
        this.direction,
        (v) => {
          this.direction = v;
          this.drawHead();
        },
      ),
      select(
        "shown",
        said("shownAs"),
        ["lines", "text"].map((v) => [v, said(v)]),
        this.shown,
        (v) => {
          this.shown = v;
          this.drawHead();
        },
      ),
      element(
        "label",
        { class: "check" },
        element("input", {
          type: "checkbox",
          id: "join",
          ...(this.joined && { checked: "" }),
          onchange: (event) => {
            this.chosen = null;
            this.joined = event.target.checked;
            this.drawUnits();
          },
        }),
        said("join"),
      ),
    );
  }

  drawBody() {
    this.hovered = null;
    if (this.shown === "lines") this.drawLines();
    else this.drawText();
    this.mark();
  }

  /** A button of a word; one of them is in the order of the tab key. */
  word(unit, i, active) {
    const shown = element(
      active ? "button" : "span",
      { class: "unit word", "data-unit": i, ...(active && { type: "button" }) },
      unit.text,
    );
    if (active) {
      shown.tabIndex = i === (this.chosen ?? 0) ? 0 : -1;
      shown.addEventListener("click", () => {
        this.chosen = this.chosen === i ? null : i;
        this.mark();
      });
      shown.addEventListener("mouseenter", () => this.hover(i));
      shown.addEventListener("mouseleave", () => this.hover(null));
    }
    return shown;
  }

  hover(i) {
    this.hovered = i;
    this.mark();
  }

  /** Arrow keys go from word to word, Escape lets go. */
  step(event) {
    const size = this.rows.length;
    const now = Number(event.target.dataset.unit);
    const next = {
      ArrowDown: now + 1,
      ArrowRight: now + 1,
      ArrowUp: now - 1,
      ArrowLeft: now - 1,
      Home: 0,
      End: size - 1,
    }[event.key];
    if (event.key === "Escape") this.chosen = null;
    else if (next === undefined || next < 0 || next >= size) return;
    else this.chosen = next;
    event.preventDefault();
    this.mark();
    if (next !== undefined) this.active[next].focus();
  }

  drawText() {
    const text = element("p", {
      class: "flow choice",
      role: "group",
      "aria-label": said("choose"),
      onkeydown: (event) => this.step(event),
    });
    this.active = this.units().map((unit, i) => {
      const word = this.word(unit, i, true);
      text.append(unit.goesOn ? "" : " ", word);
      return word;
    });
    this.passive = this.active;
    this.body.replaceChildren(text);
  }

  drawLines() {
    const units = this.units();
    const from = this.direction === "from";
    const column = (active, name) => {
      const words = units.map((unit, i) => this.word(unit, i, active));
      const made = element(
        "div",
        {
          class: `column ${name}`,
          ...(active && {
            role: "group",
            "aria-label": said("choose"),
            onkeydown: (event) => this.step(event),
          }),
          ...(!active && { "aria-hidden": "true" }),
        },
        ...words,
      );
      return [made, words];
    };
    const [left, lefts] = column(from, "left");
    const [right, rights] = column(!from, "right");
    this.active = from ? lefts : rights;
    this.passive = from ? rights : lefts;
    this.svg = element("svg:svg", {
      "aria-hidden": "true",
      viewBox: `0 0 100 ${ROW * units.length}`,
      preserveAspectRatio: "none",
      height: ROW * units.length,
    });
    this.body.replaceChildren(
      element(
        "div",
        { class: "ends", "aria-hidden": "true" },
        element("span", {}, said("readers")),
        element("span", {}, said("read")),
      ),
      element("div", { class: "lines" }, left, this.svg, right),
    );
  }

  /** What the chosen word takes from each, or each from it. */
  shares(i) {
    return this.direction === "from" ? [...this.rows[i]] : this.rows.map((r) => r[i]);
  }

  /** Marks the word that is chosen or pointed at, and draws its lines. */
  mark() {
    const now = this.hovered ?? this.chosen;
    const shares = now === null ? null : this.shares(now);
    const most = shares ? Math.max(...shares, 1e-9) : 1;
    this.active.forEach((word, i) => {
      word.tabIndex = i === (this.chosen ?? 0) ? 0 : -1;
      word.setAttribute("aria-pressed", i === this.chosen);
      word.classList.toggle("now", i === now);
    });
    this.passive.forEach((word, i) => {
      word.style.setProperty("--share", shares ? shares[i] / most : 0);
      word.title = shares ? percent(shares[i]) : "";
    });
    if (this.shown === "lines") this.drawCurves(now);
    this.drawStrongest(now, shares);
  }

  drawCurves(now) {
    const found = [];
    this.rows.forEach((row, from) =>
      row.forEach((share, to) => {
        const ours = now === null || now === (this.direction === "from" ? from : to);
        if (ours && share > 0.004) found.push([share, from, to]);
      }),
    );
    found.sort((a, b) => b[0] - a[0]);
    this.drawn = found.slice(0, MOST_LINES);
    const y = (i) => ROW * (i + 0.5);
    this.svg.replaceChildren(
      ...this.drawn.map(([share, from, to]) =>
        element("svg:path", {
          d: `M0 ${y(from)} C45 ${y(from)} 55 ${y(to)} 100 ${y(to)}`,
          "stroke-opacity": Math.sqrt(share).toFixed(3),
          "stroke-width": (1 + 3 * share).toFixed(2),
        }),
      ),
    );
    this.left = found.length - this.drawn.length;
  }

  drawStrongest(now, shares) {
    if (now === null) {
      const more = this.shown === "lines" && this.left;
      this.list.replaceChildren(
        element(
          "p",
          { class: "note" },
          said("choose"),
          more ? ` ${said("strongest", MOST_LINES)}` : "",
        ),
      );
      return;
    }
    const units = this.units();
    const best = shares
      .map((share, i) => [share, i])
      .sort((a, b) => b[0] - a[0])
      .slice(0, STRONGEST);
    const key = this.direction === "from" ? "looksAt" : "seenBy";
    this.list.replaceChildren(
      element("h4", {}, said(key, units[now].text)),
      bars(best.map(([share, i]) => [units[i].text, share])),
    );
  }
}

/** Names with their shares of 1, as bars. */
function bars(rows) {
  return element(
    "ol",
    { class: "bars" },
    ...rows.map(([name, share]) => {
      const bar = element("span", { class: "bar", "aria-hidden": "true" });
      bar.style.setProperty("--share", share);
      return element(
        "li",
        {},
        element("bdi", { class: "name" }, name),
        bar,
        element("span", { class: "number" }, percent(share)),
      );
    }),
  );
}

function select(id, label, choices, chosen, changed) {
  const made = element(
    "select",
    { id, onchange: (event) => changed(event.target.value) },
    ...choices.map(([value, text]) =>
      element("option", { value, ...(value === chosen && { selected: "" }) }, text),
    ),
  );
  return element("label", {}, label, made);
}

function table(head, rows) {
  return element(
    "div",
    { class: "scroll table", tabindex: "0", role: "region", "aria-label": head.join(", ") },
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...head.map((h) => element("th", { scope: "col" }, h)))),
      element(
        "tbody",
        {},
        ...rows.map(([first, ...rest]) =>
          element(
            "tr",
            {},
            element("th", { scope: "row" }, element("bdi", {}, first)),
            ...rest.map((cell) => element("td", { class: "number" }, cell)),
          ),
        ),
      ),
    ),
  );
}

function signed(value) {
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);
}

/** The colour of small pictures, red, green and blue. */
function inkOf(container) {
  return getComputedStyle(container).getPropertyValue("--ink-rgb").split(",").map(Number);
}
