// A place to drop, choose or paste a file.
import { Failure } from "./stream.js";
import { dataUrlOf, el, newId } from "./ui.js";

function mebibytes(count) {
  return `${(count / 2 ** 20).toFixed(1)} MiB`;
}

/** Area for one file; `chosen(name, dataUrl)` is called with it, `refused(message)` if it is too large or cannot be read. */
export class Upload {
  constructor(label, accept, limit, chosen, refused) {
    Object.assign(this, { limit, chosen, refused, turn: 0 });
    this.input = el("input", { type: "file", accept, id: newId("field"), className: "for-readers" });
    this.note = el("span", { className: "hint", textContent: "Drop it here, paste it, or choose a file." });
    const title = el("span", { className: "title", textContent: label });
    this.area = el("label", { className: "drop", for: this.input.id }, title, this.note);
    this.element = el("div", { className: "field" }, this.input, this.area);
    this.input.addEventListener("change", () => this.take(this.input.files[0]));
    this.area.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.area.classList.add("over");
    });
    this.area.addEventListener("dragleave", () => this.area.classList.remove("over"));
    this.area.addEventListener("drop", (event) => {
      event.preventDefault();
      this.area.classList.remove("over");
      this.take(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      const file = event.clipboardData?.files[0];
      if (file && this.element.checkVisibility()) this.take(file);
    });
  }

  async take(file) {
    if (!file) return;
    this.turn += 1;
    const { turn } = this;
    this.input.value = ""; // the same file may be chosen again
    if (file.size > this.limit) {
      this.refused(`${file.name} has ${mebibytes(file.size)}; a file may have ${mebibytes(this.limit)}. Choose a smaller one.`);
      return;
    }
    let data;
    try {
      data = await dataUrlOf(file);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (turn === this.turn) this.refused(error.message);
      return;
    }
    if (turn !== this.turn) return; // another file was given while this one was read
    this.note.textContent = file.name;
    await this.chosen(file.name, data);
  }

  clear() {
    this.turn += 1; // a file that is being read is not taken
    this.note.textContent = "Drop it here, paste it, or choose a file.";
  }
}
