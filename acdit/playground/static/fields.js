// Labelled form controls. Each has an `element`, and a `value` to read and set.
import { el, newId } from "./ui.js";

function hinted(control, hint) {
  if (!hint) return null;
  const note = el("p", { className: "hint", id: newId("hint"), textContent: hint });
  control.setAttribute("aria-describedby", note.id);
  return note;
}

/** Show a field or hide it. A hidden one is disabled, for a wrong value in it would block its form unseen. */
export function reveal(field, shown) {
  field.element.hidden = !shown;
  field.control.disabled = !shown;
}

/** Choice among `[value, name, note]` (the note is optional) by a drop-down list. */
export function choice(label, pairs, chosen, hint = "") {
  const control = el("select", { id: newId("field") });
  for (const [value, name, note] of pairs) control.append(option(value, name, note));
  if (chosen !== undefined) control.value = chosen;
  const title = el("label", { for: control.id, textContent: label });
  const element = el("div", { className: "field" }, title, control, hinted(control, hint));
  return {
    element,
    control,
    get value() {
      return control.value;
    },
    set value(value) {
      if ([...control.options].some((option) => option.value === String(value))) control.value = value;
    },
  };
}

/** Entry of a drop-down list. */
export function option(value, name, note) {
  return el("option", { value, textContent: note ? `${name} (${note})` : name });
}

/** Choice among a few `[value, name, note]` (the note is optional), all of them in view. */
export function chips(label, pairs, chosen, hint = "") {
  const group = newId("chips");
  const row = el("div", { className: "chips" });
  const radios = pairs.map(([value, name, note]) => {
    const radio = el("input", { type: "radio", name: group, value, id: newId("chip") });
    radio.checked = String(value) === String(chosen);
    const title = el("label", { for: radio.id }, name, note ? el("small", { textContent: note }) : null);
    row.append(el("span", { className: "chip" }, radio, title));
    return radio;
  });
  const element = el("fieldset", { className: "field" }, el("legend", { textContent: label }), row);
  const note = hinted(element, hint);
  if (note) element.append(note);
  return {
    element,
    get value() {
      return radios.find((radio) => radio.checked)?.value ?? "";
    },
    set value(value) {
      for (const radio of radios) if (radio.value === String(value)) radio.checked = true;
    },
  };
}

/** Number in a box. */
export function number(label, value, { min, max, step = 1 }, hint = "") {
  const control = el("input", { type: "number", id: newId("field"), min, max, step, value, required: true });
  const title = el("label", { for: control.id, textContent: label });
  return {
    element: el("div", { className: "field" }, title, control, hinted(control, hint)),
    control,
    get value() {
      return control.valueAsNumber;
    },
    set value(next) {
      control.value = next;
    },
  };
}

/** Number on a slider, written beside its label as `spoken(value)` says. */
export function slider(label, value, { min, max, step = 1 }, spoken = String, hint = "") {
  const control = el("input", { type: "range", id: newId("field"), min, max, step, value });
  const shown = el("output", { for: control.id });
  const title = el("label", { for: control.id, textContent: label });
  function show() {
    shown.textContent = spoken(control.valueAsNumber);
    control.setAttribute("aria-valuetext", shown.textContent);
  }
  control.addEventListener("input", show);
  show();
  return {
    element: el("div", { className: "field" }, el("div", { className: "pair" }, title, shown), control, hinted(control, hint)),
    control,
    get value() {
      return control.valueAsNumber;
    },
    set value(next) {
      control.value = next;
      show();
    },
    range(lowest, highest, next) {
      control.min = lowest;
      control.max = highest;
      control.value = next;
      show();
    },
  };
}

/** Text of several lines. */
export function textArea(label, value, rows, hint = "") {
  const control = el("textarea", { id: newId("field"), rows, value, spellcheck: false });
  const title = el("label", { for: control.id, textContent: label });
  return {
    element: el("div", { className: "field" }, title, control, hinted(control, hint)),
    control,
    get value() {
      return control.value;
    },
    set value(next) {
      control.value = next;
    },
  };
}

/** Box to tick. */
export function tick(label, ticked, hint = "") {
  const control = el("input", { type: "checkbox", id: newId("field"), checked: ticked });
  const title = el("label", { for: control.id, textContent: label });
  return {
    element: el("div", { className: "field tick" }, control, title, hinted(control, hint)),
    control,
    get value() {
      return control.checked ? "1" : "";
    },
    set value(next) {
      control.checked = next === true || next === "1";
    },
  };
}

/** Seed with a button for another one. */
export function seed(value) {
  const field = number("Seed", value, { min: 0, max: 2 ** 31 - 1 }, "The same seed and settings give the same result.");
  const other = el("button", { type: "button", textContent: "Other seed" });
  other.addEventListener("click", () => {
    field.value = Math.floor(Math.random() * 100000);
    field.control.dispatchEvent(new Event("change", { bubbles: true }));
  });
  const pair = el("div", { className: "joined" });
  field.control.replaceWith(pair);
  pair.append(field.control, other);
  return field;
}
