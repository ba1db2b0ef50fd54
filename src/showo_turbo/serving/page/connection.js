// Whether the server answers: a banner while it does not, and an event when it is back.

import { byId, make, pause } from "./dom.js";

const SECONDS_BETWEEN_CHECKS = 10;
const SECONDS_BETWEEN_RETRIES = 2;

class Connection extends EventTarget {
  away = false;

  async answers() {
    try {
      return (await fetch("/ready", { cache: "no-store", signal: AbortSignal.timeout(4000) })).ok;
    } catch {
      return false;
    }
  }

  async lost() {
    if (this.away) return;
    this.away = true;
    const banner = byId("connection");
    const retry = make("button", { type: "button", textContent: "Try now", onclick: () => this.check() });
    banner.replaceChildren(make("span", { class: "pulse", "aria-hidden": "true" }), "The server is not answering. Trying again every two seconds.", retry);
    banner.hidden = false;
    banner.classList.remove("good");
    while (this.away) {
      await pause(SECONDS_BETWEEN_RETRIES * 1000);
      await this.check();
    }
  }

  async check() {
    if (!(await this.answers())) return this.lost();
    if (!this.away) return;
    this.away = false;
    const banner = byId("connection");
    banner.replaceChildren("The server is back.");
    banner.classList.add("good");
    this.dispatchEvent(new Event("back"));
    await pause(3000);
    if (!this.away) banner.hidden = true;
  }

  watch() {
    setInterval(() => !this.away && !document.hidden && this.check(), SECONDS_BETWEEN_CHECKS * 1000);
  }
}

export const connection = new Connection();
