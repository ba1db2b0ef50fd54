// Set the colours before the first paint: the visitor's choice, else those of the system. A classic script, since modules
// run later.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is blocked
    }
  };
  const follow = () => {
    document.documentElement.dataset.theme = stored() ?? (system.matches ? "dark" : "light");
    document.dispatchEvent(new Event("theme"));
  };
  system.addEventListener("change", follow);
  follow();
})();
