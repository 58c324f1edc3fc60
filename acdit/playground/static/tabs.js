// Tabs by the pattern of WAI-ARIA: arrow keys, Home and End move between them.

/** Set up the tabs; `shown(name)` is called with the name of the panel that was chosen. Returns a function that chooses one. */
export function setUpTabs(list, shown) {
  const tabs = [...list.querySelectorAll("[role=tab]")];

  function choose(name, focus = false) {
    const chosen = tabs.find((tab) => tab.getAttribute("aria-controls") === name) ?? tabs[0];
    for (const tab of tabs) {
      const selected = tab === chosen;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !selected;
    }
    if (focus) chosen.focus();
    shown(chosen.getAttribute("aria-controls"));
  }

  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) choose(tab.getAttribute("aria-controls"));
  });
  list.addEventListener("keydown", (event) => {
    const at = tabs.findIndex((tab) => tab.getAttribute("aria-selected") === "true");
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    choose(tabs.at(next % tabs.length).getAttribute("aria-controls"), true);
  });
  return choose;
}
