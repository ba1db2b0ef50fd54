// Show one or several pictures on their way: live, paced so that steps can be seen, and by a scrubber afterwards.

import { calm, count, icon, inSeconds, make } from "./dom.js";
import { blankFrame, numSettled, paint } from "./overlay.js";

const SLOWEST_STEP = 420;
const WHOLE_REPLAY = 2600;

function legend() {
  const entry = (kind, text) => make("li", {}, make("i", { class: kind }), text);
  return make("ul", { class: "legend", "aria-label": "Codes" }, entry("masked", "masked"), entry("guessed", "guessed"), entry("settled", "settled in this pass"));
}

export class Player {
  tracks = [];
  step = 0;
  total = 0;
  codes = true;
  pixels = false;
  slow = true;
  selected = 0;
  #queue = Promise.resolve();
  #run = 0;
  #animation = 0;

  /** Build the player in an element; `onselect(track)` is told which picture is chosen. */
  constructor(element, { empty, onselect, actions = [] } = {}) {
    this.onselect = onselect;
    this.grid = make("div", { class: "canvases" });
    this.status = make("p", { class: "status", role: "status" });
    this.scrubber = make("input", { type: "range", min: 0, max: 0, step: 1, value: 0, class: "scrubber", "aria-label": "Step", oninput: () => this.#scrub() });
    this.playButton = make("button", { type: "button", class: "icon", "aria-label": "Replay", onclick: () => this.replay() }, icon("play"));
    this.strip = make("div", { class: "strip", "aria-hidden": "true" });
    this.facts = make("dl", { class: "facts" });
    this.bar = make("div", { class: "progress", role: "progressbar", "aria-label": "Forward passes", hidden: true }, make("span"));
    this.empty = make("p", { class: "empty" }, empty ?? "");
    this.frame = make("div", { class: "frame" }, this.grid, this.empty, this.bar);
    this.controls = make(
      "div",
      { class: "player-controls", hidden: true },
      make("div", { class: "row" }, this.playButton, this.scrubber),
      this.strip,
    );
    this.toggles = make("div", { class: "toggles", role: "group", "aria-label": "View" }, this.#toggle("Codes", "codes"), this.#toggle("Slow motion", "slow"), this.#toggle("Square pixels", "pixels"));
    this.actionBar = make("div", { class: "chips actions-bar", role: "group", "aria-label": "Use this picture", hidden: true }, ...actions);
    element.replaceChildren(make("div", { class: "card player" }, make("div", { class: "player-main" }, this.frame, this.controls), make("div", { class: "player-side" }, this.status, this.facts, legend(), this.toggles, this.actionBar)));
    new ResizeObserver(() => this.paint()).observe(this.grid);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
    document.addEventListener("theme", () => this.paint());
  }

  #toggle(text, name) {
    const button = make("button", { type: "button", class: "toggle", textContent: text, "aria-pressed": String(this[name]) });
    button.addEventListener("click", () => {
      this[name] = !this[name];
      button.setAttribute("aria-pressed", String(this[name]));
      this.paint();
    });
    return button;
  }

  /** Start anew with a number of pictures of a shape, from their frames before the first pass. */
  begin(starts, label) {
    this.#run += 1;
    this.#queue = Promise.resolve();
    this.tracks = starts.map((start) => ({ frames: [start], picture: null }));
    this.selected = 0;
    this.step = 0;
    this.total = 0;
    this.empty.hidden = true;
    this.controls.hidden = true;
    this.actionBar.hidden = true;
    this.facts.replaceChildren();
    this.strip.replaceChildren();
    this.bar.hidden = false;
    this.bar.firstChild.style.width = "0";
    this.status.textContent = "Waiting for the first pass";
    this.#canvases(label);
    this.paint();
    this.#reveal();
  }

  #canvases(label) {
    this.grid.dataset.count = this.tracks.length;
    this.grid.replaceChildren(
      ...this.tracks.map((track, number) => {
        track.canvas = make("canvas", { role: "img", "aria-label": this.tracks.length > 1 ? `${label}, picture ${number + 1}` : label });
        if (this.tracks.length === 1) return track.canvas;
        const button = make("button", { type: "button", class: "pick", "aria-pressed": String(number === this.selected), onclick: () => this.select(number) }, track.canvas);
        track.button = button;
        return button;
      }),
    );
  }

  select(number) {
    this.selected = number;
    this.tracks.forEach((track, other) => track.button?.setAttribute("aria-pressed", String(other === number)));
    this.#facts();
    if (this.tracks[number].picture) this.onselect?.(this.tracks[number].picture);
  }

  /** Add a frame; it is shown when the one before has been seen. */
  push(number, frame, passes) {
    const run = this.#run;
    const track = this.tracks[number];
    track.frames.push(frame);
    this.total = Math.max(this.total, passes);
    const step = track.frames.length - 1;
    if (number !== 0) return;
    this.#queue = this.#queue.then(() => run === this.#run && this.#show(step, true));
  }

  /** Wait until all frames have been seen; throw as soon as the signal aborts. */
  async seen(signal) {
    await Promise.race([this.#queue, new Promise((resolve) => signal.addEventListener("abort", resolve))]);
    signal.throwIfAborted();
  }

  async #show(step, waits) {
    const run = this.#run;
    this.step = step;
    this.#facts();
    const shown = this.total || this.last;
    this.bar.firstChild.style.width = `${(100 * step) / shown}%`;
    this.bar.setAttribute("aria-valuemax", shown);
    this.bar.setAttribute("aria-valuenow", step);
    this.status.textContent = `Pass ${step} of ${shown}`;
    const dwell = this.slow ? Math.min(SLOWEST_STEP, WHOLE_REPLAY / shown) : 0;
    const fade = calm() || !this.slow ? 0 : dwell * 0.6;
    this.#animate(fade);
    if (waits && dwell) await new Promise((resolve) => setTimeout(resolve, dwell));
    return run === this.#run;
  }

  #animate(fade) {
    cancelAnimationFrame(this.#animation);
    if (!fade) return this.paint();
    const begin = performance.now();
    const next = () => {
      const progress = Math.min(1, (performance.now() - begin) / fade);
      this.paint(progress);
      if (progress < 1) this.#animation = requestAnimationFrame(next);
    };
    next();
  }

  get last() {
    return Math.max(0, ...this.tracks.map((track) => track.frames.length - 1));
  }

  paint(progress = 1) {
    const { codes, pixels } = this;
    for (const { canvas, frames } of this.tracks) {
      const step = Math.min(this.step, frames.length - 1);
      paint(canvas, frames[step], frames[step - 1], { codes, pixels, progress });
    }
  }

  /** End a run: `how` says so in words; frames that are not seen yet are left to the scrubber. */
  end(how, pictures = []) {
    this.#run += 1;
    this.bar.hidden = true;
    this.status.textContent = how;
    pictures.forEach((picture, number) => (this.tracks[number].picture = picture));
    this.#ready();
  }

  /** Show a finished picture. */
  open(picture) {
    this.#run += 1;
    this.#queue = Promise.resolve();
    this.empty.hidden = true;
    this.bar.hidden = true;
    this.selected = 0;
    this.tracks = [{ frames: picture.frames, picture }];
    this.#canvases(picture.prompt || "A picture");
    this.total = this.last;
    this.step = this.last;
    this.status.textContent = picture.title ?? picture.prompt;
    this.#ready();
    this.#reveal();
  }

  #reveal() {
    this.frame.scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
  }

  #ready() {
    this.scrubber.max = this.last;
    this.step = Math.min(this.step, this.last);
    this.scrubber.value = this.step;
    this.controls.hidden = this.last === 0;
    this.actionBar.hidden = !this.tracks[this.selected]?.picture;
    this.#thumbnails();
    this.#facts();
    this.paint();
  }

  #thumbnails() {
    const { frames } = this.tracks[0];
    const stride = Math.ceil(frames.length / 17);
    const shown = frames.map((frame, step) => step).filter((step) => step % stride === 0 || step === frames.length - 1);
    this.strip.replaceChildren(
      ...shown.map((step) => {
        const canvas = make("canvas");
        const thumb = make("button", { type: "button", tabIndex: -1, class: "thumb", onclick: () => this.#to(step) }, canvas);
        requestAnimationFrame(() => paint(canvas, frames[step], frames[step - 1], { codes: true }));
        thumb.dataset.step = step;
        return thumb;
      }),
    );
  }

  #scrub() {
    this.#run += 1;
    this.#to(Number(this.scrubber.value));
  }

  #to(step) {
    this.step = step;
    this.scrubber.value = step;
    this.#facts();
    this.#animate(calm() ? 0 : 140);
  }

  #facts() {
    const track = this.tracks[this.selected];
    if (!track) return;
    const step = Math.min(this.step, track.frames.length - 1);
    const frame = track.frames[step];
    const all = frame.levels.length;
    const settled = numSettled(frame);
    const facts = { "forward passes": String(frame.pass), "computing time": inSeconds(frame.seconds), "codes settled": `${settled} / ${all}` };
    if (this.last === 0) return this.facts.replaceChildren();
    this.facts.replaceChildren(...Object.entries(facts).map(([name, value]) => make("div", {}, make("dd", { textContent: value }), make("dt", { textContent: name }))));
    this.scrubber.setAttribute("aria-valuetext", `step ${step} of ${this.last}, ${settled} of ${count(all, "code")} settled`);
    for (const thumb of this.strip.children) thumb.classList.toggle("now", Number(thumb.dataset.step) === step);
  }

  /** Play from the start. */
  async replay() {
    const run = (this.#run += 1);
    const words = this.status.textContent;
    this.total = this.last;
    for (let step = 0; step <= this.last; step += 1) {
      this.scrubber.value = step;
      await this.#show(step, true);
      if (run !== this.#run) return;
    }
    this.status.textContent = words;
  }
}

export { blankFrame };
