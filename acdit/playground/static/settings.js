// Settings of a model: what can be chosen depends on the model, and is kept in the address of the page.
import { chips, choice, number, seed, slider } from "./fields.js";
import { el, plural } from "./ui.js";

const FEW = 12; // more classes, or block sizes, are listed instead of shown side by side

function few(label, pairs, chosen, hint) {
  return pairs.length <= FEW ? chips(label, pairs, chosen, hint) : choice(label, pairs, chosen, hint);
}

function dimensions(block) {
  return block.replaceAll("x", " × ");
}

/** Block sizes with their names and, for pictures, how many blocks they make. */
export function blockChoices(model) {
  const tokens = model.grid.reduce((product, length) => product * length, 1);
  return model.blocks.map((block) => {
    const own = block.split("x").reduce((product, length) => product * Number(length), 1);
    return [block, dimensions(block), model.modality === "image" ? plural(tokens / own, "block") : ""];
  });
}

function classChoices(model) {
  return [["", "any"], ...model.classes.map(({ id, name }) => [id, name])];
}

const HINTS = {
  block: "Tokens that are denoised together. All of them at once is ordinary diffusion.",
  steps: "More steps are slower and finer.",
  guidance: "How strongly the class is enforced.",
};

const MAKERS = {
  label: (model, tab) => few("Class", classChoices(model), tab === "finish" ? "" : (model.classes[3] ?? model.classes[0]).id, ""),
  block: (model) => {
    return few("Block size, in tokens", blockChoices(model), model.default_block ?? model.blocks[0], HINTS.block);
  },
  steps: (model) => slider("Solver steps for each block", model.steps, { min: 1, max: model.max_steps ?? 100 }, String, HINTS.steps),
  guidance: (model) => slider("Guidance", model.guidance, { min: 1, max: 8, step: 0.1 }, (value) => value.toFixed(1), HINTS.guidance),
  seed: () => seed(0),
};

function hasField(model, name) {
  if (name === "label") return model.classes.length > 0;
  if (name === "guidance") return model.classes.length > 0 && model.guidance !== null;
  return true;
}

/**
 * Fields of a tab. `main` and `more` list those that depend on the model, in view and folded away; `extra` are further
 * fields, by name. The model is folded away if there is no choice.
 */
export class Settings {
  constructor(tab, models, main, more = [], extra = {}) {
    const names = [...main, ...more];
    Object.assign(this, { tab, main, names });
    this.known = models.map((model) => model.name);
    this.models = models.filter((model) => model.tabs.includes(tab));
    this.extra = extra;
    this.listeners = [];
    const pairs = this.models.map((model) => [model.name, model.title]);
    this.modelField = choice("Model", pairs, pairs[0]?.[0]);
    this.area = el("div", { className: "fields" });
    this.folded = el("div", { className: "fields" });
    const model = this.modelField.element;
    const alone = pairs.length < 2 && more.length > 0;
    this.element = el("div", { className: "fields" }, alone ? null : model, this.area);
    const fold = el("div", { className: "fields inset" }, this.folded, alone ? model : null);
    this.more = el("details", { className: "more" }, el("summary", { textContent: "More settings" }), fold);
    this.more.addEventListener("invalid", () => (this.more.open = true), true); // a folded field cannot show its error
    this.modelField.control.addEventListener("change", () => this.build({}));
    this.build({});
  }

  get model() {
    return this.models.find((model) => model.name === this.modelField.value) ?? null;
  }

  /** Make the fields of the chosen model, set to `values` where they are given. */
  build(values) {
    this.fields = { ...this.extra };
    if (this.model) {
      for (const name of this.names) if (hasField(this.model, name)) this.fields[name] = MAKERS[name](this.model, this.tab);
    }
    const there = this.names.filter((name) => this.fields[name]);
    const placed = (inView) => there.filter((name) => this.main.includes(name) === inView).map((name) => this.fields[name].element);
    this.area.replaceChildren(...placed(true));
    this.folded.replaceChildren(...placed(false));
    this.set(values);
    for (const listener of this.listeners) listener(this.model);
    this.set(values); // listeners may have changed what can be chosen
  }

  set(values) {
    for (const [name, field] of Object.entries(this.fields)) if (values[name] !== undefined) field.value = values[name];
  }

  /** Call `listener(model)` now and whenever another model is chosen. */
  onModel(listener) {
    this.listeners.push(listener);
    listener(this.model);
  }

  /** Return what a request needs: the model and the settings, with numbers as numbers. */
  request() {
    const body = { model: this.model.name };
    for (const name of this.names) {
      const field = this.fields[name];
      if (name === "label") body.label = !field || field.value === "" ? null : Number(field.value);
      else if (name === "block") body.block = field.value;
      else if (field) body[name] = Number(field.value);
      else if (name === "guidance") body.guidance = 1;
    }
    return body;
  }

  /** Take the settings of an address. Returns what is wrong with its model, or an empty text. */
  restore(values) {
    const { model } = values;
    if (model !== undefined) this.modelField.value = model;
    this.build(values);
    if (model === undefined || this.models.some(({ name }) => name === model)) return "";
    const fault = this.known.includes(model) ? `This tab cannot show the model ${model}` : `There is no model ${model} here`;
    return `${fault}, so the link opens ${this.modelField.value}.`;
  }

  /** Return the address of the page with the settings. */
  link() {
    const values = new URLSearchParams({ model: this.modelField.value });
    for (const [name, field] of Object.entries(this.fields)) values.set(name, field.value);
    return new URL(`#${this.tab}?${values}`, location.href).href;
  }

  /** Write the settings into the address of the page. */
  remember() {
    history.replaceState(null, "", this.link());
  }
}

/** Return the tab and the settings of the page's address. */
export function fromAddress() {
  const [tab, query = ""] = location.hash.slice(1).split("?", 2);
  return { tab, values: Object.fromEntries(new URLSearchParams(query)) };
}
