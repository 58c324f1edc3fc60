// Video: frames play while they are made; the class of the coming blocks may be changed.
import { number, reveal, tick } from "./fields.js";
import { Player } from "./player.js";
import { Runner, stopped } from "./runner.js";
import { Settings } from "./settings.js";
import { ask, Failure } from "./stream.js";
import { alertIn, bitmapOf, bytes, Code, el, Numbers, plural } from "./ui.js";
import { Upload } from "./upload.js";

const MOST_FRAMES = 4096; // of a video with an end
const NUMBERS = ["Frames made", "Network calls", "Frames per second", "Cache"];

/** Upload of a clip to continue, which can be taken back. */
class Clip {
  constructor(limits, trouble) {
    this.data = null;
    const take = (_name, data) => {
      this.data = data;
      this.remove.hidden = false;
      alertIn(trouble, "");
    };
    this.upload = new Upload("Continue a clip (optional)", "image/gif,video/*", limits.upload_bytes, take, (message) => alertIn(trouble, message));
    this.remove = el("button", { type: "button", textContent: "Remove the clip", hidden: true });
    this.remove.addEventListener("click", () => {
      this.upload.input.focus(); // the button disappears
      this.clear();
    });
    this.element = el("div", { className: "fields" }, this.upload.element, this.remove);
  }

  clear() {
    this.data = null;
    this.remove.hidden = true;
    this.upload.clear();
  }
}

/** Fill the tab. Returns its settings. */
export function setUp(panel, models, limits) {
  const endless = tick("Go on until it is stopped", true);
  const hold = tick("Keep the first block in view", false, "A long video then holds what it shows, and its class stays.");
  const frames = number("Frames", 16, { min: 1, max: MOST_FRAMES });
  const settings = new Settings("video", models, ["label"], ["block", "seed", "steps", "guidance"], { endless, frames, hold });
  const runner = new Runner("Start", begin);
  const { trouble, buttons, state } = runner;
  const clip = new Clip(limits, trouble);
  const player = new Player("Video that is being made");
  const numbers = new Numbers(NUMBERS);
  const code = new Code();
  let current = null;

  const canHold = () => settings.model?.can_hold === true;

  async function begin() {
    const body = { ...settings.request(), labels_by_block: null, frames: endless.value ? null : frames.value, clip: clip.data, hold: hold.value === "1" && canHold() };
    const link = settings.link();
    player.reset(settings.model.size, settings.model.fps ?? 8);
    numbers.clear();
    code.clear();
    player.element.scrollIntoView({ block: "nearest" });
    let made = 0;
    const show = async (images) => player.push(await Promise.all(images.map(bitmapOf)));
    const accepted = (_event, job) => {
      if (current) return;
      current = job;
      if (settings.request().label !== body.label) changeClass(); // it was chosen before the server had answered
    };
    const handlers = {
      queued: accepted,
      given: (event) => show(event.images),
      frames: async (event) => {
        await show(event.images);
        await player.room(() => runner.stopping);
        made += event.images.length;
        numbers.set("Frames made", made.toLocaleString("en"));
        numbers.set("Network calls", event.evaluations.toLocaleString("en"));
        numbers.set("Frames per second", (made / event.seconds).toFixed(1));
        numbers.set("Cache", bytes(event.cache_bytes));
      },
    };
    settings.modelField.control.disabled = true; // the classes are those of the model that is at work
    try {
      const last = await runner.job("/api/video", body, handlers);
      if (last.python) code.show(last, link);
      const reason = last.reason ? `, because ${last.reason}` : "";
      if (last.event === "stopped" && !made) return stopped(last);
      return `${last.event === "stopped" ? "Stopped after" : "Finished:"} ${plural(made, "frame")}${reason}.`;
    } finally {
      current = null;
      settings.modelField.control.disabled = false;
      player.end();
    }
  }

  async function changeClass() {
    if (!current || current.body.model !== settings.model.name) return;
    if (settings.model.can_change_class === false) {
      runner.say("This model cannot change the class of a video that has begun. The next video will have it.", true);
      return;
    }
    if (current.body.hold) {
      runner.say("The first block stays in view, and with it the class. The next video will have the new one.", true);
      return;
    }
    const { label } = settings.request();
    try {
      await ask("/api/video/label", { job: current.id, label });
      const name = settings.model.classes.find(({ id }) => id === label)?.name ?? "any class";
      runner.say(`From the next block on: ${name}.`, true);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      alertIn(trouble, error.message);
    }
  }

  function arrange() {
    reveal(frames, !endless.value);
    reveal(hold, canHold());
    if (!runner.running && settings.model && !player.frames.length) player.reset(settings.model.size, settings.model.fps ?? 8);
  }

  settings.onModel(arrange);
  const form = el("form", { className: "controls" }, settings.element, endless.element, frames.element, hold.element, buttons, state, clip.element, settings.more);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    runner.press();
  });
  form.addEventListener("change", (event) => {
    settings.remember();
    arrange();
    if (settings.fields.label?.element.contains(event.target)) changeClass();
  });
  const results = el("div", { className: "results" }, trouble, player.element, numbers.element, code.element);
  panel.append(el("div", { className: "split" }, form, results));
  return { settings, arrange };
}
