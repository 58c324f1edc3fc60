// Plays frames while they arrive. Only the last ones are kept, so that memory does not grow with the length.
import { el, newId } from "./ui.js";

const KEPT = 320; // frames
const UNPLAYED = 64; // frames that wait to be played, above which no more are taken
const LOOK = 50; // milliseconds after which it is seen whether there is room again
const HURRY = 2; // seconds of frames not yet played, above which the player is faster

/** Canvas with play, pause and a slider over the kept frames. */
export class Player {
  constructor(name, wanted = 320) {
    this.wanted = wanted;
    this.canvas = el("canvas", { role: "img", "aria-label": name });
    this.pen = this.canvas.getContext("2d");
    this.toggle = el("button", { type: "button", textContent: "Pause", disabled: true });
    this.track = el("input", { type: "range", id: newId("track"), min: 0, max: 0, value: 0, "aria-label": "Frame", disabled: true });
    this.place = el("p", { className: "place", textContent: "No frames yet" });
    const picture = el("div", { className: "picture" }, this.canvas);
    const controls = el("div", { className: "transport" }, this.toggle, this.track, this.place);
    this.element = el("div", { className: "stage" }, picture, controls);
    this.picture = picture;
    this.toggle.addEventListener("click", () => (this.playing ? this.pause() : this.play()));
    this.track.addEventListener("input", () => {
      this.pause();
      this.at = this.track.valueAsNumber;
      this.draw();
    });
    this.reset([1, 32, 32], 8);
  }

  /** Forget all frames. `size` is (frames, height, width), `rate` in frames per second. */
  reset(size, rate) {
    const [height, width] = size.slice(-2);
    for (const frame of this.frames ?? []) frame.close();
    Object.assign(this, { frames: [], first: 0, at: -1, rate, ended: false, due: 0 });
    Object.assign(this.canvas, { width, height });
    this.picture.style.setProperty("--size", `${width * Math.max(1, Math.round(this.wanted / width))}px`);
    this.picture.style.setProperty("--ratio", `${width} / ${height}`);
    this.place.textContent = "No frames yet";
    this.toggle.disabled = this.track.disabled = true;
    this.pause();
  }

  /** Add frames to the end; the oldest are forgotten. */
  push(bitmaps) {
    this.frames.push(...bitmaps);
    const old = this.frames.splice(0, Math.max(0, this.frames.length - KEPT));
    for (const frame of old) frame.close();
    this.first += old.length;
    Object.assign(this.track, { min: this.first, max: this.last });
    if (this.toggle.disabled) {
      this.toggle.disabled = this.track.disabled = false;
      this.play();
    } else if (!this.playing && this.at < 0) {
      this.at = this.first; // paused before any frame was shown
      this.draw();
    } else if (!this.playing) {
      this.say(); // the picture stays, even if its frame is one of those that were forgotten
    }
  }

  /** Wait while many frames are to be played, unless nobody looks or `over()` is true: the oldest would be lost unseen. */
  async room(over) {
    const isFull = () => this.playing && !document.hidden && this.last - this.at > UNPLAYED;
    while (isFull() && !over()) await new Promise((resolve) => setTimeout(resolve, LOOK));
  }

  get last() {
    return this.first + this.frames.length - 1;
  }

  /** Say that no more frames come; the kept ones are then played in a circle, unless motion is unwelcome. */
  end() {
    this.ended = true;
  }

  play() {
    if (this.playing || !this.frames.length) return;
    this.playing = true;
    this.toggle.textContent = "Pause";
    if (this.ended && this.at >= this.last) this.at = this.first - 1;
    this.due = performance.now();
    this.timer = requestAnimationFrame((now) => this.tick(now));
  }

  pause() {
    this.playing = false;
    this.toggle.textContent = "Play";
    cancelAnimationFrame(this.timer);
  }

  tick(now) {
    if (!this.playing) return;
    if (now >= this.due) {
      if (this.at < this.last) this.step(Math.max(this.at + 1, this.first), now);
      else if (this.ended) this.again(now);
    }
    this.timer = requestAnimationFrame((next) => this.tick(next));
  }

  again(now) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) this.pause();
    else this.step(this.first, now);
  }

  step(frame, now) {
    this.at = frame;
    const ahead = this.last - frame;
    const hurry = this.ended ? 1 : Math.max(1, ahead / (HURRY * this.rate));
    this.due = now + 1000 / (this.rate * hurry);
    this.draw();
  }

  draw() {
    const frame = this.frames[this.at - this.first];
    if (!frame) return;
    this.pen.drawImage(frame, 0, 0, this.canvas.width, this.canvas.height);
    this.say();
  }

  /** Say which frame is shown. */
  say() {
    const place = `Frame ${this.at + 1} of ${this.last + 1}`;
    this.track.value = this.at;
    this.track.setAttribute("aria-valuetext", place);
    this.place.textContent = place;
  }
}
