// Runs before the page is painted, so that a chosen theme doesn't flash the other one.
(() => {
  try {
    const chosen = localStorage.getItem("headstart-theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch {
    // A browser that forbids storage follows the system's theme.
  }
})();
