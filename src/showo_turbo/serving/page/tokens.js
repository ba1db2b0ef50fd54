// An answer whose tokens settle pass by pass, with a replay.

import { stream } from "./api.js";
import { calm, count, icon, inSeconds, make } from "./dom.js";

const SLOWEST_PASS = 650;
const WHOLE_REPLAY = 2800;

/** Ask a question and yield its passes, the last with `done`. */
export async function* askPasses(body, signal, on = {}) {
  for await (const [name, data] of stream("/app/ask", body, signal)) {
    if (name === "accepted") on.accepted?.(data);
    else if (name === "queue") on.queue?.(data.ahead);
    else yield data;
  }
}

/** Return the body of a question about a picture, after earlier turns. */
export function questionBody(model, url, turns, question, options) {
  const image = { type: "image_url", image_url: { url } };
  const texts = [...turns.flatMap((turn) => [turn.question, turn.answer]), question];
  const messages = texts.map((text, index) => (index % 2 ? { role: "assistant", content: text } : { role: "user", content: index ? text : [image, { type: "text", text }] }));
  return { model, messages, ...options };
}

export class TokenView {
  passes = [];
  #run = 0;

  constructor({ replay = true } = {}) {
    this.text = make("p", { class: "tokens" });
    this.facts = make("p", { class: "token-facts" });
    this.scrubber = make("input", { type: "range", min: 0, max: 0, value: 0, class: "scrubber", "aria-label": "Pass", oninput: () => this.#scrub() });
    this.player = make("div", { class: "row token-player", hidden: true }, make("button", { type: "button", class: "icon", "aria-label": "Replay the answer", onclick: () => this.replay() }, icon("play")), this.scrubber);
    this.element = make("div", { class: "answer" }, this.text, make("div", { class: "row" }, replay ? this.player : null, this.facts));
    this.text.append(make("span", { class: "dots", "aria-hidden": "true" }, make("i"), make("i"), make("i")));
  }

  /** Add a pass and show it. */
  push(pass) {
    this.passes.push(pass);
    this.show(this.passes.length);
  }

  get last() {
    return this.passes.at(-1);
  }

  /** Number of settled tokens, with the end of text, in the pass before a number of passes. */
  settledAfter(number) {
    return number === 0 ? 0 : this.passes[number - 1].settled;
  }

  /** Show the answer after a number of passes. */
  show(number) {
    this.shown = number;
    if (number === 0) {
      this.text.replaceChildren(make("span", { class: "guess", textContent: "Nothing is settled." }));
      return;
    }
    const { tokens, settled, ended } = this.passes[number - 1];
    const runs = [];
    for (let pass = 1; pass <= number; pass += 1) {
      const words = tokens.slice(this.settledAfter(pass - 1), this.settledAfter(pass)).join("");
      const end = ended && pass === number;
      if (!words && !end) continue;
      const run = make("span", { class: "run", title: `Settled in pass ${pass}` }, make("sup", { textContent: pass, "aria-hidden": "true" }), words);
      run.style.setProperty("--depth", `${Math.max(12, 44 - 9 * (pass - 1))}%`);
      if (pass === number) run.classList.add("new");
      if (end) run.append(make("span", { class: "end", title: "End of the answer", textContent: " ■", "aria-hidden": "true" }));
      runs.push(run);
    }
    const guesses = tokens.slice(settled).join("");
    this.text.replaceChildren(...runs, guesses ? make("span", { class: "guess", title: "Guesses that may still change", textContent: guesses }) : "");
    this.scrubber.value = number;
    this.scrubber.setAttribute("aria-valuetext", `pass ${number} of ${this.passes.length}, ${count(settled, "token")} settled`);
    this.#facts(this.passes[number - 1]);
  }

  #facts(pass) {
    const perPass = (pass.settled / pass.pass).toFixed(1);
    const perSecond = pass.seconds ? Math.round(pass.settled / pass.seconds) : 0;
    this.facts.textContent = `${count(pass.settled, "token")} in ${count(pass.pass, "pass")} · ${perPass} per pass · ${inSeconds(pass.seconds)} · ${perSecond} tokens/s`;
  }

  /** Let passes be scrubbed. */
  end() {
    this.scrubber.max = this.passes.length;
    this.scrubber.value = this.passes.length;
    this.player.hidden = this.passes.length === 0;
    this.text.querySelector(".dots")?.remove();
  }

  #scrub() {
    this.#run += 1;
    this.show(Number(this.scrubber.value));
  }

  /** Play from the start. */
  async replay() {
    const run = (this.#run += 1);
    const dwell = Math.min(SLOWEST_PASS, WHOLE_REPLAY / this.passes.length);
    for (let number = 0; number <= this.passes.length; number += 1) {
      this.show(number);
      await new Promise((resolve) => setTimeout(resolve, calm() ? dwell * 1.5 : dwell));
      if (run !== this.#run) return;
    }
  }
}
