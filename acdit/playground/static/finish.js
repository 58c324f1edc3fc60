// Finish: the model keeps the first blocks of a picture, draws the rest several times, and a classifier reads the results.
import { chips, slider } from "./fields.js";
import { Pad } from "./paint.js";
import { BlockPicture } from "./picture.js";
import { Runner, stopped } from "./runner.js";
import { Settings } from "./settings.js";
import { ask, Failure } from "./stream.js";
import { alertIn, bitmapOf, bytes, Code, el, Numbers, plural, saveLink } from "./ui.js";
import { Upload } from "./upload.js";

const NUMBERS = ["Network calls", "Seconds", "Cache"];

function percent(score) {
  return `${Math.round(100 * score)}%`;
}

/** What the classifier reads: its first guesses with bars. */
function reading(guesses) {
  const list = el("ol", { className: "guesses" });
  for (const { label, score } of guesses) {
    const bar = el("span", { className: "meter", "aria-hidden": "true" });
    bar.style.setProperty("--part", score);
    list.append(el("li", {}, el("span", { textContent: label }), bar, el("span", { textContent: percent(score) })));
  }
  return list;
}

/** Pictures that are being finished at the same time. */
class Gallery {
  constructor() {
    this.element = el("div", { className: "gallery" });
    this.pictures = [];
  }

  reset(model, block, count, keep) {
    this.keep = keep;
    this.pictures = Array.from({ length: count }, (_, index) => new BlockPicture(`Result ${index + 1}`, 160));
    this.element.replaceChildren(
      ...this.pictures.map((picture, index) =>
        el("figure", {}, picture.element, el("figcaption", { textContent: `Result ${index + 1}` })),
      ),
    );
    for (const picture of this.pictures) {
      picture.layout(model, block);
      picture.progress(keep, keep);
    }
  }

  async given(image) {
    const bitmap = await bitmapOf(image);
    for (const picture of this.pictures) picture.whole(bitmap);
  }

  async block(images, done) {
    const bitmaps = await Promise.all(images.map(bitmapOf));
    this.pictures.forEach((picture, index) => {
      picture.whole(bitmaps[index]);
      picture.progress(done, this.keep);
    });
  }

  recognised(results) {
    results.forEach((guesses, index) => {
      const figure = this.element.children[index];
      this.pictures[index].describe(`Result ${index + 1}, read as ${guesses[0].label}, ${percent(guesses[0].score)}`);
      figure.append(el("p", { className: "reads" }, "Reads ", el("b", { textContent: guesses[0].label })), reading(guesses));
    });
  }

  rest() {
    for (const picture of this.pictures) picture.rest();
  }
}

/** The picture to finish: painted or uploaded, as the model sees it, with the blocks that are kept. */
class Source {
  constructor(limits, trouble, settings, keep) {
    Object.assign(this, { trouble, settings, keep, uploaded: null, turn: 0 });
    this.way = chips("Picture", [["paint", "Paint"], ["upload", "Upload"]], "paint");
    this.pad = new Pad(() => this.refresh());
    const take = (_name, dataUrl) => {
      this.uploaded = dataUrl;
      return this.refresh();
    };
    const refuse = (message) => alertIn(trouble, message);
    this.upload = new Upload("Your picture", "image/*", limits.upload_bytes, take, refuse);
    this.seen = new BlockPicture("The picture as the model sees it", 224);
    this.caption = el("figcaption", { textContent: "As the model sees it. Blocks in grey are dropped and drawn anew." });
    this.figure = el("figure", { className: "seen", hidden: true }, this.seen.element, this.caption);
    this.wait = el("p", { className: "empty", textContent: "Paint or choose a picture. It appears here as the model sees it." });
    this.place = el("div", { className: "place-of-source" }, this.wait, this.figure);
    this.element = el("div", { className: "fields" }, this.way.element, this.pad.element, this.upload.element);
    this.way.element.addEventListener("change", () => this.refresh());
    this.seen.cells.addEventListener("click", (event) => this.keepUpTo(event.target));
  }

  get image() {
    return this.way.value === "paint" ? this.pad.image : this.uploaded;
  }

  keepUpTo(cell) {
    const index = [...this.seen.cells.children].indexOf(cell);
    if (index < 0) return;
    this.keep.value = Math.min(index + 1, this.seen.count - 1);
    this.keep.control.dispatchEvent(new Event("change", { bubbles: true }));
    this.shade();
  }

  /** Shade the blocks that are dropped. */
  shade() {
    if (!this.seen.count) return;
    this.seen.mark("given", 0, this.keep.value);
    this.seen.mark("dropped", this.keep.value, this.seen.count);
  }

  /** Lay out the blocks of the chosen size, and let the number of kept ones follow. */
  arrange() {
    const { model, fields } = this.settings;
    if (!model) return;
    const layout = `${model.name} ${fields.block.value}`;
    if (layout !== this.layout) {
      this.layout = layout;
      const before = this.seen.count;
      this.seen.layout(model, fields.block.value);
      if (before !== this.seen.count) {
        const most = Math.max(0, this.seen.count - 1);
        this.keep.range(Math.min(1, most), most, Math.min(most, Math.max(1, Math.floor(this.seen.count / 2))));
        this.keep.control.disabled = most === 0;
      }
    }
    this.shade(); // a link may have brought another number of kept blocks
  }

  /** Show the pad or the place for a file. */
  toggle() {
    this.pad.element.hidden = this.way.value !== "paint";
    this.upload.element.hidden = this.way.value !== "upload";
  }

  /** Ask how the model sees the picture, and show it. */
  async refresh() {
    this.toggle();
    this.figure.hidden = true;
    this.wait.hidden = false;
    this.turn += 1;
    const turn = this.turn;
    const { model, fields } = this.settings;
    if (!this.image || !model) return;
    try {
      const answer = await ask("/api/preview", { model: model.name, image: this.image, block: fields.block.value });
      const bitmap = await bitmapOf(answer.image);
      if (turn !== this.turn) return; // another picture was given in the meantime
      alertIn(this.trouble, "");
      this.arrange();
      this.seen.whole(bitmap);
      this.figure.hidden = false;
      this.wait.hidden = true;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (turn !== this.turn) return;
      if (this.way.value === "upload") {
        this.uploaded = null;
        this.upload.clear();
      }
      alertIn(this.trouble, error.message);
    }
  }
}

/** Fill the tab. Returns its settings. */
export function setUp(panel, models, limits) {
  const keep = slider("Blocks that are kept", 2, { min: 1, max: 3 });
  const count = slider("Results", 4, { min: 1, max: 8 });
  const settings = new Settings("finish", models, ["block"], ["label", "seed", "steps", "guidance"], { keep, count });
  const runner = new Runner("Finish", begin);
  const { trouble, buttons, state } = runner;
  const source = new Source(limits, trouble, settings, keep);
  const gallery = new Gallery();
  const numbers = new Numbers(NUMBERS);
  const code = new Code();

  async function begin() {
    const [image, link] = [source.image, settings.link()];
    if (source.seen.count === 1) throw new Failure("One block is the whole picture, so nothing can be kept: choose a smaller block size.");
    if (!image) throw new Failure("There is no picture yet: paint one, or choose a file.");
    const body = { ...settings.request(), image, keep: keep.value, count: count.value };
    gallery.reset(settings.model, body.block, body.count, body.keep);
    numbers.clear();
    code.clear();
    gallery.element.scrollIntoView({ block: "nearest" });
    let given = "";
    const handlers = {
      given: (event) => {
        given = event.image;
        return gallery.given(given);
      },
      block: async (event) => {
        await gallery.block(event.images, event.block + 1);
        numbers.set("Network calls", event.evaluations.toLocaleString("en"));
        numbers.set("Cache", bytes(event.cache_bytes));
        numbers.set("Seconds", event.seconds.toFixed(1));
      },
      recognised: (event) => gallery.recognised(event.results),
    };
    try {
      const last = await runner.job("/api/finish", body, handlers);
      // the code reads the picture that was sent, whatever has been painted since
      if (last.python) code.show(last, link, saveLink("picture.png", given, "Save picture.png"));
      if (last.event === "stopped") return stopped(last, "the whole pictures");
      const end = `${plural(body.count, "picture")} finished in ${last.seconds.toFixed(1)} s`;
      return last.note ? `${end}; ${last.note}` : `${end}.`;
    } finally {
      gallery.rest();
    }
  }

  settings.onModel(() => {
    source.arrange();
    source.refresh();
  });
  const form = el("form", { className: "controls" }, source.element, settings.element, keep.element, count.element, buttons, state, settings.more);
  keep.control.addEventListener("input", () => source.shade());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    runner.press();
  });
  form.addEventListener("change", (event) => {
    const isCut = settings.fields.block.element.contains(event.target);
    if (isCut) source.arrange(); // before the address is written, which holds the number of kept blocks
    settings.remember();
    if (isCut) source.refresh();
  });

  const results = el("div", { className: "results" }, trouble, source.place, gallery.element, numbers.element, code.element);
  panel.append(el("div", { className: "split" }, form, results));
  function arrange() {
    source.toggle();
    source.arrange();
  }

  return { settings, arrange };
}
