// Write: streamed tokens, each coloured by the step that revealed it; gaps of a text are filled.
import { chips, number, reveal, slider, textArea, tick } from "./fields.js";
import { Runner, stopped } from "./runner.js";
import { Settings } from "./settings.js";
import { Code, el, Numbers, plural } from "./ui.js";

const NUMBERS = ["Tokens", "Network calls", "Tokens per second"];
const FULLEST = 16; // swatches of the legend

function tint(element, step, steps) {
  element.style.setProperty("--part", steps > 1 ? step / (steps - 1) : 1);
}

/** Text with its tokens coloured by step, and the legend of the colours. */
class Sheet {
  constructor() {
    this.text = el("p", { className: "sheet", tabIndex: 0, "aria-label": "Text", role: "group" });
    this.legend = el("ol", { className: "legend", "aria-label": "Step of its block in which a token was revealed" });
    const given = el("span", { className: "token given", textContent: "given" });
    this.key = el("div", { className: "key", hidden: true }, el("span", { textContent: "Revealed in step" }), this.legend, given);
    this.element = el("div", { className: "paper" }, this.text, this.key);
    this.clear(1);
  }

  clear(steps) {
    this.steps = steps;
    this.count = 0;
    this.text.replaceChildren();
    this.legend.replaceChildren();
    this.key.hidden = true;
    const every = Math.ceil(steps / FULLEST);
    for (let step = 0; step < steps; step += every) {
      const swatch = el("li", { textContent: step + 1 });
      tint(swatch, step, steps);
      this.legend.append(swatch);
    }
  }

  add(tokens) {
    this.key.hidden = false;
    this.count += tokens.filter(({ given }) => !given).length;
    for (const { text, step, given } of tokens) {
      const token = el("span", { className: given ? "token given" : "token", textContent: text });
      token.title = given ? "Given" : `Revealed in step ${step + 1}`;
      if (!given) {
        token.dataset.step = step + 1;
        tint(token, step, this.steps);
      }
      this.text.append(token);
    }
  }
}

/** Fill the tab. Returns its settings. */
export function setUp(panel, models) {
  const way = chips("Task", [["write", "Continue a text"], ["fill", "Fill gaps"]], "write");
  const prompt = textArea("Beginning", "To be, or not to be", 3);
  const gaps = textArea("Text with gaps", "To be, or ___ to be, that is the ________.", 3, "Three or more underscores are a gap as long as they are.");
  const tokens = number("Tokens", 96, { min: 1, max: 4096 });
  const temperature = slider("Temperature", 0.7, { min: 0, max: 1.5, step: 0.05 }, (value) => value.toFixed(2), "Lower is more probable and less varied.");
  const steps = slider("Steps for each block", 1, { min: 1, max: 1 }, String, "Fewer steps reveal several tokens at once: faster, and worse.");
  const numbered = tick("Number the tokens by step", false);
  const settings = new Settings("write", models, ["block"], ["seed"], { way, prompt, gaps, tokens, temperature, steps, numbered });
  const runner = new Runner("Write", begin);
  const { trouble, buttons, state } = runner;
  const sheet = new Sheet();
  const numbers = new Numbers(NUMBERS);
  const code = new Code();

  function arrange() {
    const filling = way.value === "fill";
    for (const field of [prompt, tokens]) reveal(field, !filling);
    reveal(gaps, filling);
    runner.start.textContent = filling ? "Fill" : "Write";
    sheet.element.classList.toggle("numbered", Boolean(numbered.value));
    if (!settings.model) return;
    tokens.control.max = settings.model.grid[0];
    const most = Math.min(Number(settings.fields.block.value), settings.model.max_steps);
    if (steps.control.max !== String(most)) steps.range(1, most, most);
    steps.control.disabled = most === 1;
  }

  async function begin() {
    const { model, block, seed } = settings.request();
    const shared = { model, block: Number(block), seed, steps: steps.value, temperature: temperature.value };
    const link = settings.link();
    const filling = way.value === "fill";
    const body = filling ? { ...shared, text: gaps.value } : { ...shared, prompt: prompt.value, tokens: tokens.value };
    sheet.clear(steps.value);
    numbers.clear();
    code.clear();
    sheet.element.scrollIntoView({ block: "nearest" });
    const handlers = {
      tokens: (event) => {
        sheet.add(event.tokens);
        numbers.set("Tokens", sheet.count.toLocaleString("en"));
        numbers.set("Network calls", event.evaluations.toLocaleString("en"));
        numbers.set("Tokens per second", event.tokens_per_second.toFixed(1));
      },
    };
    const last = await runner.job(filling ? "/api/fill" : "/api/write", body, handlers);
    if (last.python) code.show(last, link);
    if (last.event === "stopped") return stopped(last, "the whole text");
    const end = `${plural(sheet.count, "token")} in ${last.seconds.toFixed(1)} s`;
    return last.note ? `${end}; ${last.note}.` : `${end}.`;
  }

  settings.onModel((model) => {
    if (model && tokens.value > model.grid[0]) [tokens.value] = model.grid;
    arrange();
  });
  settings.folded.before(temperature.element, tokens.element);
  const form = el(
    "form",
    { className: "controls" },
    ...[way, prompt, gaps].map((field) => field.element),
    settings.element,
    steps.element,
    buttons,
    state,
    settings.more,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    runner.press();
  });
  panel.addEventListener("change", () => {
    arrange(); // before the address is written, which holds what follows from the block size
    settings.remember();
  });
  const results = el("div", { className: "results" }, trouble, sheet.element, numbered.element, numbers.element, code.element);
  panel.append(el("div", { className: "split" }, form, results));
  return { settings, arrange };
}
