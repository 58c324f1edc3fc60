// A picture made of blocks: drawn on a canvas, with the state of every block above it.
import { el } from "./ui.js";

/** Number of blocks down and across a picture, for a block size such as "4x4" of a model. */
export function blocksOf(model, block) {
  const [height, width] = model.grid.slice(-2);
  const [blockHeight, blockWidth] = block.split("x").map(Number).slice(-2);
  return { rows: height / blockHeight, columns: width / blockWidth };
}

/** Set how many times larger than its pixels a picture is shown. */
function enlarge(element, width, wanted) {
  element.style.setProperty("--size", `${width * Math.max(1, Math.round(wanted / width))}px`);
}

/** Picture with the outlines of its blocks. States of blocks: pending, current, done, given and dropped. */
export class BlockPicture {
  constructor(name, wanted = 320) {
    this.wanted = wanted;
    this.canvas = el("canvas", { role: "img", "aria-label": name });
    this.cells = el("div", { className: "cells", "aria-hidden": "true" });
    this.element = el("div", { className: "picture" }, this.canvas, this.cells);
    this.pen = this.canvas.getContext("2d");
  }

  /** Describe the picture to users of a screen reader. */
  describe(text) {
    this.canvas.setAttribute("aria-label", text);
  }

  /** Clear the picture and lay out the blocks of a model. */
  layout(model, block, state = "pending") {
    const [height, width] = model.size.slice(-2);
    Object.assign(this.canvas, { width, height });
    Object.assign(this, blocksOf(model, block));
    this.count = this.rows * this.columns;
    enlarge(this.element, width, this.wanted);
    this.element.style.setProperty("--ratio", `${width} / ${height}`);
    this.cells.style.setProperty("grid-template-columns", `repeat(${this.columns}, 1fr)`);
    this.cells.replaceChildren();
    for (let index = 0; index < this.count; index += 1) {
      this.cells.append(el("span", { textContent: index + 1, "data-state": state }));
    }
  }

  /** Give blocks a state, from `first` to before `last`. */
  mark(state, first, last = first + 1) {
    for (let index = first; index < Math.min(last, this.count); index += 1) this.cells.children[index].dataset.state = state;
  }

  /** Draw the whole picture. */
  whole(bitmap) {
    this.pen.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
  }

  /** Draw one block at its place. */
  part(bitmap, block) {
    const width = this.canvas.width / this.columns;
    const height = this.canvas.height / this.rows;
    const row = Math.floor(block / this.columns);
    this.pen.drawImage(bitmap, (block % this.columns) * width, row * height, width, height);
  }

  /** Keep the first `done` blocks in view, and outline the next one if there is one. */
  progress(done, given = 0) {
    this.mark("given", 0, given);
    this.mark("done", given, done);
    this.mark("pending", done, this.count);
    if (done < this.count) this.mark("current", done);
  }

  /** Show no block as being made. */
  rest() {
    for (const cell of this.cells.children) if (cell.dataset.state === "current") cell.dataset.state = "pending";
  }
}

/** Denoising steps of one block after another, of which one block is in view. */
export class Strip {
  constructor() {
    this.title = el("h3", { textContent: "Denoising steps" });
    this.back = el("button", { type: "button", className: "quiet", textContent: "Previous block" });
    this.forth = el("button", { type: "button", className: "quiet", textContent: "Next block" });
    this.pictures = el("div", { className: "steps", role: "img", "aria-label": "No steps yet" });
    const head = el("div", { className: "pair" }, this.title, el("div", { className: "row" }, this.back, this.forth));
    this.element = el("section", { className: "strip", hidden: true }, head, this.pictures);
    this.back.addEventListener("click", () => this.show(this.shown - 1));
    this.forth.addEventListener("click", () => this.show(this.shown + 1));
    this.clear(0);
  }

  clear(blocks) {
    this.blocks = blocks;
    this.steps = new Map();
    this.shown = 0;
    this.following = true;
    this.element.hidden = true;
    this.pictures.replaceChildren();
  }

  /** Add the picture of a block after a step, and show that block unless another one was chosen. */
  add(block, image) {
    if (!this.steps.has(block)) this.steps.set(block, []);
    this.steps.get(block).push(image);
    this.element.hidden = false;
    if (this.following && this.shown !== block) this.show(block, true);
    else if (this.shown === block) {
      this.append(image);
      this.name();
    }
  }

  append(image) {
    const step = this.pictures.children.length + 1;
    this.pictures.append(el("img", { src: image, alt: "", title: `Step ${step}` }));
  }

  name() {
    const count = this.steps.get(this.shown)?.length ?? 0;
    this.title.textContent = `Denoising steps of block ${this.shown + 1} of ${this.blocks}`;
    this.pictures.setAttribute("aria-label", `${count} steps of block ${this.shown + 1}, from noise to the finished block`);
    const focused = document.activeElement;
    this.back.disabled = !this.steps.has(this.shown - 1);
    this.forth.disabled = !this.steps.has(this.shown + 1);
    if (focused === this.back && this.back.disabled) this.forth.focus(); // a button that is disabled loses the focus
    else if (focused === this.forth && this.forth.disabled) this.back.focus();
  }

  /** Show the steps of a block. */
  show(block, following = false) {
    this.shown = block;
    this.following = following || block === Math.max(...this.steps.keys());
    this.pictures.replaceChildren();
    for (const image of this.steps.get(block)) this.append(image);
    this.name();
  }
}
