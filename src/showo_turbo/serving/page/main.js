// Start: fetch what the server knows, build the pages, and switch between them.

import { json } from "./api.js";
import { Ask } from "./ask.js";
import { connection } from "./connection.js";
import { byId, icon, make } from "./dom.js";
import { Draw } from "./draw.js";
import { Edit } from "./edit.js";
import { How } from "./how.js";
import { session } from "./session.js";

const VIEWS = ["draw", "ask", "edit", "how"];

function showTheme() {
  const dark = document.documentElement.dataset.theme === "dark";
  byId("theme").replaceChildren(icon(dark ? "sun" : "moon"));
  byId("theme").setAttribute("aria-label", dark ? "Light colours" : "Dark colours");
}

function switchTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Storage is blocked: the choice lasts until the system's colours change.
  }
  document.dispatchEvent(new Event("theme"));
}

function showView(moves = false) {
  const chosen = VIEWS.find((view) => `#${view}` === location.hash) ?? VIEWS[0];
  for (const view of VIEWS) byId(`view-${view}`).hidden = view !== chosen;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${byId(`${chosen}-title`).textContent} · Showo Turbo`;
  if (moves) scrollTo({ top: 0 });
}

function build(info) {
  session.start(info);
  byId("model").append(...info.models.map(({ name }) => make("option", { textContent: name })));
  byId("model").addEventListener("change", (event) => session.choose(event.target.value));
  byId("version").textContent = `Showo Turbo ${info.version}`;
  byId("loading").remove();
  showView();
  new Draw();
  new Ask();
  new Edit();
  new How();
  for (const view of ["ask", "edit"]) session.addEventListener(`use-${view}`, () => (location.hash = view));
  session.addEventListener("use-vary", () => (location.hash = "edit"));
  addEventListener("hashchange", () => VIEWS.includes(location.hash.slice(1)) && showView(true));
  connection.watch();
}

byId("theme").addEventListener("click", switchTheme);
document.addEventListener("theme", showTheme);
showTheme();

async function start() {
  try {
    build(await json("/app/info"));
  } catch (error) {
    byId("loading").textContent = error.message;
    connection.addEventListener("back", start, { once: true });
  }
}

start();
