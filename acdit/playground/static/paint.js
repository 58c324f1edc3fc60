// A pad to paint a digit on: with a mouse, a finger or a pen, with the keyboard, or by typing it.
import { announce, el, newId } from "./ui.js";

const SIDE = 280;
const BRUSH = 24;
const STEP = 10; // pixels that an arrow key moves the brush
const PAUSE = 200; // milliseconds without a change after which the painting is looked at
const INK = "#fff";
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** White strokes on black; `changed()` is called when no further one follows soon. */
export class Pad {
  constructor(changed) {
    this.changed = () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(changed, PAUSE);
    };
    this.canvas = el("canvas", { width: SIDE, height: SIDE });
    this.pen = this.canvas.getContext("2d");
    this.cursor = el("span", { className: "brush", "aria-hidden": "true", hidden: true });
    const help = el("p", {
      className: "hint",
      id: newId("hint"),
      textContent: "Drag to paint. By keyboard: arrow keys move the brush, space puts it down or lifts it, Delete clears.",
    });
    this.board = el(
      "div",
      { className: "pad", tabIndex: 0, role: "application", "aria-label": "Painting pad", "aria-describedby": help.id },
      this.canvas,
      this.cursor,
    );
    const clear = el("button", { type: "button", textContent: "Clear" });
    clear.addEventListener("click", () => this.clear());
    const typed = el("input", { type: "text", maxLength: 1, size: 2, id: newId("field"), autocomplete: "off" });
    typed.addEventListener("input", () => typed.value.trim() && this.type(typed.value));
    const label = el("label", { for: typed.id, textContent: "or type it:" });
    this.element = el("div", { className: "field" }, this.board, help, el("div", { className: "row" }, clear, label, typed));
    this.down = false;
    this.at = [SIDE / 2, SIDE / 2];
    this.listen();
    this.clear(true);
  }

  listen() {
    this.board.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return; // only the first button of a mouse paints
      this.board.setPointerCapture(event.pointerId);
      this.dragging = true;
      this.at = this.place(event);
      this.line(this.at, this.at);
    });
    this.board.addEventListener("pointermove", (event) => {
      if (!this.dragging) return;
      const to = this.place(event);
      this.line(this.at, to);
      this.at = to;
    });
    for (const name of ["pointerup", "pointercancel"]) {
      this.board.addEventListener(name, () => {
        if (this.dragging) this.changed();
        this.dragging = false;
      });
    }
    this.board.addEventListener("keydown", (event) => this.key(event));
    this.board.addEventListener("focus", () => this.point());
    this.board.addEventListener("blur", () => (this.cursor.hidden = true));
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  }

  key(event) {
    if (event.key === " ") {
      this.down = !this.down;
      announce(this.down ? "Brush down" : "Brush up");
      if (this.down) this.line(this.at, this.at);
    } else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else if (MOVES[event.key]) this.move(MOVES[event.key]);
    else return;
    event.preventDefault();
    this.point();
    if (this.down) this.changed();
  }

  move([right, down]) {
    const inside = (value) => Math.min(SIDE, Math.max(0, value));
    const to = [inside(this.at[0] + right * STEP), inside(this.at[1] + down * STEP)];
    if (this.down) this.line(this.at, to);
    this.at = to;
  }

  point() {
    this.cursor.hidden = !this.board.matches(":focus-visible");
    this.cursor.classList.toggle("down", this.down);
    this.cursor.style.setProperty("left", `${(100 * this.at[0]) / SIDE}%`);
    this.cursor.style.setProperty("top", `${(100 * this.at[1]) / SIDE}%`);
  }

  line([fromX, fromY], [toX, toY]) {
    Object.assign(this.pen, { strokeStyle: INK, lineWidth: BRUSH, lineCap: "round", lineJoin: "round" });
    this.pen.beginPath();
    this.pen.moveTo(fromX, fromY);
    this.pen.lineTo(toX, toY + 0.01); // a line without length would not be painted
    this.pen.stroke();
    this.empty = false;
  }

  type(letter) {
    this.clear(true);
    Object.assign(this.pen, { fillStyle: INK, textAlign: "center", textBaseline: "alphabetic" });
    this.pen.font = `${SIDE * 0.85}px sans-serif`;
    this.pen.fillText(letter, SIDE / 2, SIDE * 0.8);
    this.empty = false;
    this.changed();
  }

  clear(silently = false) {
    this.pen.fillStyle = "#000";
    this.pen.fillRect(0, 0, SIDE, SIDE);
    this.empty = true;
    this.down = false;
    if (!silently) this.changed();
  }

  /** Return the painting as a data URL, or null if nothing was painted. */
  get image() {
    return this.empty ? null : this.canvas.toDataURL("image/png");
  }
}
