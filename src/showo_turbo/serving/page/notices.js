// What goes wrong, in words, beside what caused it; and what a model of a small world knows.

import { ServerError } from "./api.js";
import { announce, make } from "./dom.js";
import { session } from "./session.js";

const WORD = /[\p{L}\p{N}]+(?:[-'][\p{L}\p{N}]+)*/gu;

/** Show an error with a button that tries again; nothing for a cancellation. */
export function showError(element, error, retry) {
  if (error.name === "AbortError") return;
  const named = error instanceof ServerError;  // its message starts with the name of a field
  const words = named ? error.message.charAt(0).toUpperCase() + error.message.slice(1) : error.message;
  const again = retry && make("button", { type: "button", textContent: "Try again", onclick: () => { clearError(element); retry(); } });
  element.replaceChildren(make("div", { class: "notice bad", role: "alert" }, make("p", { textContent: /[.!?]$/.test(words) ? words : `${words}.` }), again ?? null));
  if (!error.status && error.constructor.name === "TypeError") console.error(error);
}

export function clearError(element) {
  element.replaceChildren();
}

/** Keep a note under a text that names words which the model has never seen. */
export function watchWorld(input, note) {
  const update = () => {
    const { world } = session.model;
    const known = world && new Set(world.words);
    const words = [...new Set((input.value.toLowerCase().match(WORD) ?? []).filter((word) => known && !known.has(word)))];
    note.hidden = !world;
    if (!world) return;
    note.classList.toggle("warn", words.length > 0);
    const limits = `This model has seen ${world.limits} only`;
    note.textContent = words.length ? `${limits}, and never the word${words.length > 1 ? "s" : ""} ${words.slice(0, 4).map((word) => `“${word}”`).join(", ")}. It draws or answers something anyway.` : `${limits}.`;
  };
  input.addEventListener("input", update);
  session.addEventListener("model", update);
  update();
}

/** Fill a group with examples; pressing one puts it into an input. */
export function showExamples(element, texts, input) {
  const chip = (text) => make("button", { type: "button", class: "chip", textContent: text, onclick: () => {
    input.value = text;
    input.dispatchEvent(new Event("input"));
    input.focus();
  } });
  element.replaceChildren(...texts.map(chip));
  element.parentElement.classList.toggle("none", texts.length === 0);
}

/** Turn a button into "Cancel" while work runs, and return its signal. */
export class Running {
  #controller = null;

  constructor(button, text) {
    this.button = button;
    this.text = text;
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.cancel());
  }

  get active() {
    return this.#controller !== null;
  }

  begin() {
    this.#controller = new AbortController();
    this.button.textContent = "Cancel";
    this.button.classList.add("running");
    return this.#controller.signal;
  }

  end() {
    this.#controller = null;
    this.button.textContent = this.text;
    this.button.classList.remove("running");
  }

  cancel() {
    if (!this.#controller) return;
    this.#controller.abort();
    announce("Cancelled");
  }
}
