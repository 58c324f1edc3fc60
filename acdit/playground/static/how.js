// How it works: the attention mask of a layout, the order of its blocks, its cache and its cost.
import { Settings } from "./settings.js";
import { ask, Failure } from "./stream.js";
import { alertIn, bitmapOf, bytes, Code, el, operations, plural } from "./ui.js";

const PARTS = [
  ["clean", "A clean block attends to itself and to the clean blocks before it."],
  ["context", "A noised block attends to the clean blocks before its own."],
  ["own", "A noised block attends to itself."],
];
const LONGEST_ROW = 32; // tokens; a longer row is broken
const MOST_BARS = 12;

/** What a pixel of the server's mask says: grey for nothing, blue for a clean key, orange for a noised one. */
function meaning(red, blue) {
  if (Math.abs(red - blue) < 32) return "nothing";
  return red > blue ? "own" : "clean";
}

/** Draw a mask in the colours of the page. */
async function drawMask(canvas, dataUrl) {
  const bitmap = await bitmapOf(dataUrl);
  const { width, height } = bitmap;
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const ink = { nothing: rgb(pen, canvas) };
  for (const [part] of PARTS) ink[part] = rgb(pen, canvas.closest(".card").querySelector(`[data-part=${part}]`));
  pen.drawImage(bitmap, 0, 0);
  const image = pen.getImageData(0, 0, width, height);
  for (let row = 0; row < height; row += 1) {
    const pixels = image.data.subarray(4 * width * row, 4 * width * (row + 1));
    const parts = Array.from({ length: width }, (_, column) => meaning(pixels[4 * column], pixels[4 * column + 2]));
    const noised = parts.includes("own");
    parts.forEach((part, column) => pixels.set(ink[noised && part === "clean" ? "context" : part], 4 * column));
  }
  pen.putImageData(image, 0, 0);
}

/** Return the background colour of an element as four numbers. */
function rgb(pen, element) {
  pen.fillStyle = getComputedStyle(element).backgroundColor;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data];
}

/** Table of the block numbers of tokens. */
function orderTable(rows, blocks, caption) {
  const table = el("table", { className: "order" }, el("caption", { textContent: caption }));
  for (const row of rows) {
    const line = el("tr", {});
    for (const block of row) {
      const cell = el("td", { textContent: block + 1 });
      cell.style.setProperty("--part", blocks > 1 ? block / (blocks - 1) : 0);
      line.append(cell);
    }
    table.append(line);
  }
  return table;
}

/** Cut a list into parts of a length. */
function parts(list, length) {
  return Array.from({ length: Math.ceil(list.length / length) }, (_, part) => list.slice(part * length, (part + 1) * length));
}

/** Order of the blocks: of every token, or of every frame if a frame lies within a block. */
function orderOf(model, order, blocks) {
  if (order === null) return el("p", { textContent: "There are too many tokens to list." });
  if (model.modality !== "video") {
    const rows = order.length === 1 && order[0].length > LONGEST_ROW ? parts(order[0], LONGEST_ROW / 2) : order;
    return el("div", { className: "orders" }, orderTable(rows, blocks, "Number of the block of each token"));
  }
  const frames = parts(order, model.grid[1]);
  const whole = frames.every((rows) => new Set(rows.flat()).size === 1);
  if (whole) return orderTable(parts(frames.map((rows) => rows[0][0]), LONGEST_ROW / 4), blocks, "Number of the block of each frame");
  return el("div", { className: "orders" }, ...frames.map((rows, frame) => orderTable(rows, blocks, `Frame ${frame + 1}`)));
}

/** The cache while the blocks are made: a bar for each, or for some of them. */
function cacheList(cache) {
  const most = Math.max(1, ...cache.map((entry) => entry.bytes));
  const every = Math.ceil(cache.length / MOST_BARS);
  const list = el("ol", { className: "bars" });
  for (const { block, tokens, bytes: size } of cache.filter((_, index) => (cache.length - 1 - index) % every === 0)) {
    const bar = el("span", { className: "meter", "aria-hidden": "true" });
    bar.style.setProperty("--part", size / most);
    const name = `While block ${block + 1} is made: ${plural(tokens, "token")}`;
    list.append(el("li", {}, el("span", { textContent: name }), bar, el("span", { textContent: bytes(size) })));
  }
  return list;
}

function costList({ full_sequence: full, block_by_block: blocks, saving }) {
  const list = el("ol", { className: "bars" });
  const most = Math.max(full, blocks);
  for (const [name, cost] of [["Whole sequence at once", full], ["Block by block, with the cache", blocks]]) {
    const bar = el("span", { className: "meter", "aria-hidden": "true" });
    bar.style.setProperty("--part", cost / most);
    list.append(el("li", {}, el("span", { textContent: name }), bar, el("span", { textContent: operations(cost) })));
  }
  const change = `${Math.abs(100 * saving).toFixed(1)}% ${saving < 0 ? "more" : "less"} than all at once.`;
  return [list, el("p", { textContent: change })];
}

function card(title, text, ...content) {
  return el("article", { className: "card" }, el("h3", { textContent: title }), el("p", { textContent: text }), ...content);
}

function maskCard(canvas, unit) {
  const legend = el("ul", { className: "mask-legend" });
  for (const [name, text] of PARTS) {
    const swatch = el("span", { className: "swatch", "aria-hidden": "true", "data-part": name });
    legend.append(el("li", {}, swatch, el("span", { textContent: text })));
  }
  const text = `Each row is a ${unit} that looks, each column a ${unit} that is looked at. Clean ${unit}s come first, then the noised ones; the last block needs no clean copy, for nothing comes after it.`;
  const frame = el("div", { className: "mask" }, canvas);
  return card("Who attends to whom", text, frame, legend);
}

/** Fill the tab. Returns its settings. */
export function setUp(panel, models) {
  const settings = new Settings("how", models, ["block"]);
  const trouble = el("div", { className: "trouble" });
  const cards = el("div", { className: "cards" });
  const code = new Code();
  const summary = el("p", { className: "summary" });
  let turn = 0;
  let shown = null;

  async function explain() {
    if (!settings.model || panel.hidden) return;
    const { model, block } = settings.request();
    const link = settings.link();
    if (shown === `${model} ${block}`) return;
    turn += 1;
    const mine = turn;
    shown = `${model} ${block}`;
    try {
      const answer = await ask("/api/how", { model, block });
      if (mine !== turn) return; // another layout was chosen in the meantime
      alertIn(trouble, "");
      await show(answer, link);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (mine !== turn) return;
      shown = null; // it may be asked for again
      alertIn(trouble, error.message);
    }
  }

  async function show(answer, link) {
    const canvas = el("canvas", { role: "img", "aria-label": `Attention mask of ${plural(answer.blocks, "block")}` });
    summary.textContent = answer.text;
    const order = card(
      "In which order",
      `The ${plural(answer.blocks, "block")} are made one after the other; the tokens of a block are made together.`,
      orderOf(settings.model, answer.order, answer.blocks),
    );
    const cache = card(
      "What the cache holds",
      "Keys and values of the finished blocks. They are computed once and read in every step of the blocks after them.",
      cacheList(answer.cache),
    );
    const cost = card("What it costs", "Floating-point operations of one sample, with the model's own number of steps.", ...costList(answer.flops));
    cards.replaceChildren(el("div", {}, maskCard(canvas, answer.unit), cost), el("div", {}, order, cache));
    code.show(answer, link);
    await drawMask(canvas, answer.mask);
    mask = () => drawMask(canvas, answer.mask);
  }

  let mask = () => {};
  const repaint = () => mask();
  document.getElementById("theme").addEventListener("click", () => requestAnimationFrame(repaint));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  const form = el("form", { className: "controls" }, settings.element);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    settings.remember();
    explain();
  });
  panel.append(trouble, el("div", { className: "split" }, form, summary), cards, code.element);
  return { settings, arrange: explain };
}
