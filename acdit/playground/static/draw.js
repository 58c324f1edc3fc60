// Draw: a picture from a class, block by block; the same seed at two block sizes side by side.
import { choice, option, tick } from "./fields.js";
import { BlockPicture, Strip } from "./picture.js";
import { Runner, stopped } from "./runner.js";
import { Settings, blockChoices } from "./settings.js";
import { bitmapOf, bytes, Code, el, Numbers, plural, saveLink } from "./ui.js";

const NUMBERS = ["Network calls", "First block", "Seconds", "Cache"];

/** Picture, numbers, steps and code of one block size. */
class Easel {
  constructor() {
    this.title = el("h3", {});
    this.picture = new BlockPicture("No picture yet");
    this.numbers = new Numbers(NUMBERS);
    this.strip = new Strip();
    this.code = new Code();
    const stage = el("div", { className: "stage" }, this.picture.element);
    this.element = el("article", { className: "easel" }, this.title, stage, this.numbers.element, this.strip.element, this.code.element);
  }

  /** Show an empty picture of a layout, unless a picture of this layout is there. */
  prepare(model, block) {
    if (this.model !== model || this.block !== block) this.reset(model, block);
  }

  reset(model, block) {
    Object.assign(this, { model, block });
    this.title.textContent = `Blocks of ${block.replaceAll("x", " × ")} tokens`;
    this.picture.layout(model, block);
    this.picture.describe("No picture yet");
    this.strip.clear(this.picture.count);
    this.numbers.clear();
    this.code.clear();
  }

  /** Draw the picture that `body` asks for, with the page's address of now; return the last event. */
  async draw(runner, body, link, name) {
    const { picture, numbers, strip } = this;
    const begun = () => picture.progress(0);
    const step = async (event) => {
      picture.part(await bitmapOf(event.image), event.block);
      strip.add(event.block, event.image);
    };
    const block = async (event) => {
      picture.whole(await bitmapOf(event.image));
      picture.progress(event.block + 1);
      picture.describe(`Picture after ${event.block + 1} of ${plural(event.blocks, "block")}`);
      numbers.set("Network calls", event.evaluations.toLocaleString("en"));
      numbers.set("Cache", bytes(event.cache_bytes));
      numbers.set("Seconds", event.seconds.toFixed(1));
      if (event.block === 0) numbers.set("First block", `${event.seconds.toFixed(1)} s`);
    };
    try {
      const last = await runner.job("/api/draw", { ...body, block: this.block }, { started: begun, step, block }, name);
      const save = () => saveLink("drawn.png", picture.canvas.toDataURL(), "Save the picture");
      if (last.python) this.code.show(last, link, ...(last.event === "done" ? [save()] : []));
      return last;
    } finally {
      picture.rest();
    }
  }
}

/** Fill the tab. Returns its settings. */
export function setUp(panel, models) {
  const compare = tick("Compare with a second block size", false);
  const second = choice("Second block size", [["", ""]], "");
  const extra = { compare, second };
  const settings = new Settings("draw", models, ["label", "block", "seed"], ["steps", "guidance"], extra);
  const easels = [new Easel(), new Easel()];
  const runner = new Runner("Draw", begin);

  function sizes() {
    return compare.value ? [settings.fields.block.value, second.value] : [settings.fields.block.value];
  }

  function arrange() {
    second.element.hidden = !compare.value;
    easels[1].element.hidden = !compare.value;
    if (runner.running || !settings.model) return;
    sizes().forEach((block, index) => easels[index].prepare(settings.model, block));
  }

  async function begin() {
    const [body, link] = [settings.request(), settings.link()];
    arrange();
    const chosen = sizes();
    chosen.forEach((block, index) => easels[index].reset(settings.model, block));
    easels[0].element.scrollIntoView({ block: "nearest" });
    const name = (index) => (chosen.length > 1 ? `Picture ${index + 1}` : "");
    const last = await Promise.all(chosen.map((block, index) => easels[index].draw(runner, body, link, name(index))));
    const end = last.find((event) => event.event === "stopped");
    if (end) return stopped(end, "the whole picture");
    const seconds = last.map((event) => `${event.seconds.toFixed(1)} s`).join(" and ");
    return `Finished in ${seconds}.`;
  }

  settings.onModel((model) => {
    if (!model) return;
    const pairs = blockChoices(model);
    second.control.replaceChildren(...pairs.map((pair) => option(...pair)));
    second.value = model.blocks.find((block) => block !== model.default_block) ?? model.blocks[0];
    arrange();
  });
  const { state, trouble, buttons } = runner;
  const form = el("form", { className: "controls" }, settings.element, compare.element, second.element, buttons, state, settings.more);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    runner.press();
  });
  form.addEventListener("change", () => {
    settings.remember();
    arrange();
  });
  const results = el("div", { className: "easels" }, ...easels.map((easel) => easel.element));
  panel.append(el("div", { className: "split" }, form, el("div", { className: "results" }, trouble, results)));
  return { settings, arrange };
}
