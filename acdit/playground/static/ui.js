// Small pieces that every tab uses: elements, messages, numbers, code to copy.
import { Failure } from "./stream.js";

let identifiers = 0;

/** Return an id that no other element has. */
export function newId(prefix) {
  identifiers += 1;
  return `${prefix}-${identifiers}`;
}

/** Return a new element with the given properties, attributes (`aria-*`, `role`, `for`, ...) and children. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Tell users of a screen reader something that others see. Used sparingly: beginnings, ends and waiting. */
export function announce(message) {
  document.getElementById("announcer").textContent = message;
}

/** Show an error in a box at the top of `place`, or clear the box if the message is empty. */
export function alertIn(place, message) {
  place.replaceChildren();
  if (!message) return;
  const close = el("button", { type: "button", className: "quiet", textContent: "Close" });
  const before = document.activeElement;
  close.addEventListener("click", () => {
    const panel = place.closest("[role=tabpanel]");
    const ways = [before, panel?.querySelector("button.main"), document.getElementById("main")];
    place.replaceChildren();
    ways.find((way) => way && way !== document.body && !way.disabled && way.checkVisibility()).focus();
  });
  place.append(el("div", { className: "alert", role: "alert" }, el("p", { textContent: message }), close));
  place.scrollIntoView({ block: "nearest" });
}

/** Write a number of bytes with a unit that keeps it short. */
export function bytes(count) {
  if (count < 1000) return `${count} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(count < 1e4 ? 1 : 0)} kB`;
  return `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;
}

/** Write a number of operations with a unit. */
export function operations(count) {
  const [power, unit] = count < 1e9 ? [1e6, "million"] : count < 1e12 ? [1e9, "billion"] : [1e12, "trillion"];
  return `${(count / power).toPrecision(3)} ${unit}`;
}

/** Write "1 block" or "3 blocks". */
export function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/** Line of numbers with their names, such as network calls and seconds. */
export class Numbers {
  constructor(names) {
    this.values = new Map();
    this.element = el("dl", { className: "numbers" });
    for (const name of names) {
      const value = el("dd", { textContent: "–" });
      this.values.set(name, value);
      this.element.append(el("div", {}, el("dt", { textContent: name }), value));
    }
  }

  set(name, value) {
    this.values.get(name).textContent = value;
  }

  clear() {
    for (const value of this.values.values()) value.textContent = "–";
  }
}

/** Copy a text, and return whether it was possible. */
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // pages that are not on localhost and not encrypted have no clipboard, and a browser may forbid its use
  }
  const area = el("textarea", { value: text, className: "for-readers" });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

const REFUSED = "The browser does not let the page copy. Select the code below.";

/** Button that copies a text; `refused()` is called if it cannot. */
function copyButton(name, text, refused) {
  const button = el("button", { type: "button", className: "quiet", textContent: name });
  button.addEventListener("click", async () => {
    const done = await toClipboard(text);
    if (document.activeElement === document.body) button.focus(); // the area for the text has taken the focus
    if (!done) refused();
    button.textContent = done ? "Copied" : name;
    announce(done ? "Copied" : REFUSED);
    if (done) setTimeout(() => (button.textContent = name), 1500);
  });
  return button;
}

/** Buttons that copy what makes the same result, with the code to read. */
export class Code {
  constructor() {
    this.element = el("div", { className: "code", hidden: true });
  }

  /** Show the texts of a last event, and a link to the settings that they were made with. */
  show({ python, command, without_command: reason }, link, ...further) {
    const buttons = el("div", { className: "row" });
    const note = el("p", { className: "hint" });
    const texts = el("details", {}, el("summary", { textContent: "Show the code" }));
    const refused = () => {
      note.textContent = REFUSED;
      texts.open = true;
    };
    for (const [name, text] of [["Python", python], ["command", command], ["link", link]]) {
      if (!text) continue;
      buttons.append(copyButton(name === "link" ? "Copy link" : `Copy as ${name}`, text, refused));
      const block = el("pre", { tabIndex: 0, "aria-label": `As ${name}`, "data-code": name.toLowerCase() });
      block.append(el("code", { textContent: text }));
      texts.append(block);
    }
    buttons.append(...further);
    if (reason) note.textContent = `There is no command for it: ${reason}.`;
    this.element.replaceChildren(buttons, note, texts);
    this.element.hidden = false;
  }

  clear() {
    this.element.hidden = true;
    this.element.replaceChildren();
  }
}

/** Link that saves a picture. */
export function saveLink(name, dataUrl, text) {
  return el("a", { className: "save", href: dataUrl, download: name, textContent: text });
}

/** Decode a data URL into a bitmap, without a request. */
export async function bitmapOf(dataUrl) {
  const [head, body] = dataUrl.split(",", 2);
  const data = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([data], { type: head.slice(5).split(";")[0] }));
}

/** Read a file as a data URL. Raises `Failure` if it cannot be read, as a folder cannot. */
export function dataUrlOf(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Failure(`${file.name} cannot be read. Choose a file, and no folder.`)));
    reader.readAsDataURL(file);
  });
}
