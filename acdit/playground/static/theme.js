// Runs before the page is painted, so that a chosen theme does not flash. A page without a choice follows the system.
(function () {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try {
    chosen = localStorage.getItem("acdit-theme");
  } catch {
    // storage may be forbidden; the choice then lasts as long as the page
  }

  function show() {
    if (chosen) document.documentElement.dataset.theme = chosen;
    const dark = chosen ? chosen === "dark" : system.matches;
    document.getElementById("theme")?.setAttribute("aria-pressed", String(dark));
  }

  function toggle(event) {
    chosen = event.currentTarget.getAttribute("aria-pressed") === "true" ? "light" : "dark";
    try {
      localStorage.setItem("acdit-theme", chosen);
    } catch {
      // as above
    }
    show();
  }

  show();
  system.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", toggle);
    show();
  });
})();
