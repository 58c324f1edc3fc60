// The page: asks for the models, fills the tabs, and opens the one of the address.
import * as draw from "./draw.js";
import * as finish from "./finish.js";
import * as how from "./how.js";
import { fromAddress } from "./settings.js";
import { Failure, get } from "./stream.js";
import { setUpTabs } from "./tabs.js";
import { alertIn, el } from "./ui.js";
import * as video from "./video.js";
import * as write from "./write.js";

const PANELS = { draw, finish, video, write, how };

/** Say in a panel that none of the models fits it. */
function withoutModel(panel) {
  panel.append(el("p", { className: "empty", textContent: "None of the models here can do this. Give one with acdit demo --model DIR." }));
}

function fill(models, limits) {
  const parts = {};
  for (const [name, part] of Object.entries(PANELS)) {
    const panel = document.getElementById(name);
    if (models.some((model) => model.tabs.includes(name))) parts[name] = part.setUp(panel, models, limits);
    else withoutModel(panel);
  }
  return parts;
}

async function begin() {
  const { models, limits, version } = await get("/api/models");
  const parts = fill(models, limits);
  document.getElementById("version").append(` acdit ${version}`);

  let shown = "draw";

  /** Open the tab of the address; for an address of something else, such as that of the link over the tabs, keep the one in view. */
  function open({ tab, values }) {
    if (!Object.hasOwn(PANELS, tab)) return choose(shown);
    const wrong = Object.keys(values).length ? parts[tab]?.settings.restore(values) : "";
    choose(tab);
    alertIn(document.getElementById("trouble"), wrong ?? "");
  }

  const choose = setUpTabs(document.querySelector("[role=tablist]"), (name) => {
    shown = name;
    parts[name]?.arrange();
    parts[name]?.settings.remember();
  });
  open(fromAddress());
  // a file that misses the place for it would be opened in place of the page
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
  window.addEventListener("hashchange", () => open(fromAddress()));
  document.documentElement.dataset.ready = "true";
}

begin().catch((error) => {
  if (!(error instanceof Failure)) throw error;
  alertIn(document.getElementById("trouble"), error.message);
});
