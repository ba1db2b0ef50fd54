// Set the colours before the first paint. A classic script, since modules run later.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    // Storage is blocked: the system's colours are used.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
