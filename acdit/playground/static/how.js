// How it works: the attention mask of a layout, the order of its blocks, its cache and its cost.
import { Settings } from "./settings.js";
import { ask, Failure } from "./stream.js";
import { alertIn, bitmapOf, bytes, el, operations, plural } from "./ui.js";

const LIT = 128; // brightness from which a pixel of the mask says "attends"
const PARTS = [
  ["clean", "A clean block attends to itself and to the clean blocks before it."],
  ["context", "A noised block attends to the clean blocks before its own."],
  ["own", "A noised block attends to itself."],
];

/** Mask with the colours of the page: what attends to what. */
async function drawMask(canvas, dataUrl) {
  const bitmap = await bitmapOf(dataUrl);
  const side = bitmap.width;
  Object.assign(canvas, { width: side, height: bitmap.height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(bitmap, 0, 0);
  const image = pen.getImageData(0, 0, side, bitmap.height);
  const style = getComputedStyle(canvas);
  const ink = Object.fromEntries([...PARTS.map(([name]) => name), "nothing"].map((name) => [name, rgb(pen, style, name)]));
  for (let at = 0; at < image.data.length; at += 4) {
    const [row, column] = [Math.floor(at / 4 / side), (at / 4) % side];
    const part = row < bitmap.height / 2 ? "clean" : column < side / 2 ? "context" : "own";
    image.data.set(ink[image.data[at] >= LIT ? part : "nothing"], at);
  }
  pen.putImageData(image, 0, 0);
}

/** Read a colour of the style sheet as four numbers. */
function rgb(pen, style, name) {
  pen.fillStyle = style.getPropertyValue(`--mask-${name}`).trim();
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data];
}

function orderTable(order, blocks) {
  const table = el("table", { className: "order" }, el("caption", { textContent: "Number of the block of each token" }));
  for (const row of order) {
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

function cacheList(cache) {
  const most = Math.max(1, ...cache.map((entry) => entry.bytes));
  const list = el("ol", { className: "bars" });
  for (const { block, tokens, bytes: size } of cache) {
    const bar = el("span", { className: "meter", "aria-hidden": "true" });
    bar.style.setProperty("--part", size / most);
    list.append(el("li", {}, el("span", { textContent: `Block ${block + 1}: ${plural(tokens, "token")}` }), bar, el("span", { textContent: bytes(size) })));
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
  return [list, el("p", { textContent: `Saved: ${Math.round(100 * saving)}% of the operations.` })];
}

function card(title, text, ...content) {
  return el("article", { className: "card" }, el("h3", { textContent: title }), el("p", { textContent: text }), ...content);
}

function maskCard(canvas) {
  const legend = el("ul", { className: "mask-legend" });
  for (const [name, text] of PARTS) {
    const swatch = el("span", { className: "swatch", "aria-hidden": "true", "data-part": name });
    legend.append(el("li", {}, swatch, el("span", { textContent: text })));
  }
  const text = "Each row is a token that looks, each column a token that is looked at. Clean tokens come first, then their noised copies.";
  const frame = el("div", { className: "mask" }, canvas);
  return card("Who attends to whom", text, frame, legend);
}

/** Fill the tab. Returns its settings. */
export function setUp(panel, models) {
  const settings = new Settings("how", models, ["block"]);
  const trouble = el("div", { className: "trouble" });
  const cards = el("div", { className: "cards" });
  const summary = el("p", { className: "summary" });
  let turn = 0;
  let shown = null;

  async function explain() {
    if (!settings.model || panel.hidden) return;
    turn += 1;
    const mine = turn;
    const { model, block } = settings.request();
    if (shown === `${model} ${block}`) return;
    try {
      const answer = await ask("/api/how", { model, block });
      if (mine !== turn) return; // another layout was chosen in the meantime
      alertIn(trouble, "");
      await show(answer);
      shown = `${model} ${block}`;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      alertIn(trouble, error.message);
    }
  }

  async function show(answer) {
    const canvas = el("canvas", { role: "img", "aria-label": `Attention mask of ${plural(answer.blocks, "block")}` });
    summary.textContent = answer.text;
    cards.replaceChildren(
      maskCard(canvas),
      card("In which order", `The ${plural(answer.blocks, "block")} are made one after the other; the tokens of a block are made together.`, orderTable(answer.order, answer.blocks)),
      card("What the cache holds", "Keys and values of the finished blocks, computed once. The last block needs none: nothing comes after it.", cacheList(answer.cache)),
      card("What it costs", "Floating-point operations of one sample.", ...costList(answer.flops)),
    );
    await drawMask(canvas, answer.mask);
    mask = () => drawMask(canvas, answer.mask);
  }

  let mask = () => {};
  const repaint = () => mask();
  document.getElementById("theme").addEventListener("click", () => requestAnimationFrame(repaint));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  const form = el("form", { className: "controls wide" }, settings.element);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    settings.remember();
    explain();
  });
  panel.append(form, trouble, summary, cards);
  return { settings, arrange: explain };
}
