// The page that draws.

import { announce, byId, count, icon, inSeconds, make } from "./dom.js";
import { Compare } from "./compare.js";
import { Controls } from "./controls.js";
import { download, showPictures } from "./gallery.js";
import { clearError, Running, showError, showExamples, watchWorld } from "./notices.js";
import { blankFrame, Player } from "./player.js";
import { randomSeed, session } from "./session.js";
import { runDrawing } from "./trajectory.js";

const FIRST_OPTIONS = ["num_inference_steps", "guidance_scale", "top_k"];
const SIZES = [[1, 1], [2, 1], [1, 2], [2, 2]];

export class Draw {
  constructor() {
    this.prompt = byId("draw-prompt");
    this.errors = byId("draw-error");
    this.running = new Running(byId("draw-go"), "Draw");
    const action = (text, act) => make("button", { type: "button", textContent: text, onclick: () => this.picture && act(this.picture) });
    this.player = new Player(byId("draw-player"), {
      empty: "Describe a picture, or take an example, and press Draw.",
      onselect: (picture) => (this.picture = picture),
      actions: [
        action("Same settings", (picture) => this.reuse(picture)),
        action("Vary", (picture) => session.use(picture, "vary")),
        action("Edit", (picture) => session.use(picture, "edit")),
        action("Use for a question", (picture) => session.use(picture, "ask")),
        action("Download", (picture) => download(picture).catch((error) => showError(this.errors, error))),
      ],
    });
    this.compare = new Compare(byId("compare"), byId("draw-compare"), this.errors);
    this.main = new Controls(byId("draw-main-options"), [], "draw", { brief: true });
    this.more = new Controls(byId("draw-more-options"), [], "draw");
    byId("draw-dice").append(icon("dice"));
    byId("draw-dice").addEventListener("click", () => (byId("draw-seed").value = randomSeed()));
    byId("draw-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.running.active) this.running.cancel();
      else this.draw();
    });
    this.prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      byId("draw-form").requestSubmit();
    });
    byId("draw-compare").addEventListener("click", () => {
      if (!byId("draw-form").reportValidity()) return;
      byId("draw-player").hidden = true;
      this.compare.toggle(this.prompt.value.trim(), this.seed());
    });
    watchWorld(this.prompt, byId("draw-world"));
    showPictures(byId("gallery-list"), (picture) => this.open(picture));
    session.addEventListener("model", () => this.showModel());
    this.showModel();
    this.player.grid.replaceChildren(this.#firstCanvas());
  }

  /** Return a canvas that shows what a picture is before the first pass. */
  #firstCanvas() {
    const { grid } = session.model;
    this.player.tracks = [{ frames: [blankFrame([grid, grid])], canvas: make("canvas", { role: "img", "aria-label": "A picture of which every code is masked" }) }];
    return this.player.tracks[0].canvas;
  }

  showModel() {
    const { model } = session;
    this.main.show(model.sampling.filter((option) => FIRST_OPTIONS.includes(option.name)));
    this.more.show(model.sampling.filter((option) => !FIRST_OPTIONS.includes(option.name)));
    const sizes = SIZES.map(([width, height]) => `${width * model.resolution}x${height * model.resolution}`);
    byId("draw-size").replaceChildren(...sizes.map((size) => make("option", { value: size, textContent: size.replace("x", " × ") })));
    const prompts = model.world?.prompts ?? [];
    showExamples(byId("draw-examples"), prompts.filter((text) => text.length < 48).slice(0, 6), this.prompt);
    if (!this.prompt.value || this.prompt.dataset.example === this.prompt.value) {
      this.prompt.value = prompts[0] ?? "";
      this.prompt.dataset.example = this.prompt.value;
      this.prompt.dispatchEvent(new Event("input"));
    }
  }

  seed() {
    const text = byId("draw-seed").value.trim();
    return text === "" ? randomSeed() : Number(text);
  }

  open(picture) {
    this.compare.hide();
    byId("draw-player").hidden = false;
    this.picture = picture;
    this.player.open(picture);
  }

  /** Take over the settings of a picture. */
  reuse(picture) {
    const { body } = picture;
    if (!body) return;
    if (body.model !== session.model.name) byId("model").value = body.model;
    if (body.model !== session.model.name) session.choose(body.model);
    this.prompt.value = picture.prompt;
    this.prompt.dispatchEvent(new Event("input"));
    this.main.set(body);
    this.more.set(body);
    byId("draw-seed").value = picture.seed;
    if (body.size) byId("draw-size").value = body.size;
    this.prompt.focus();
    announce("The settings of this picture are set");
  }

  async draw() {
    const number = Number(byId("draw-number").value);
    const { model } = session;
    const size = byId("draw-size").value;
    const [width, height] = size.split("x").map((pixels) => (Number(pixels) / model.resolution) * model.grid);
    const body = { model: model.name, prompt: this.prompt.value.trim(), size, ...this.main.values(), ...this.more.values() };
    const seed = this.seed();
    this.compare.hide();
    byId("draw-player").hidden = false;
    clearError(this.errors);
    const signal = this.running.begin();
    const { player } = this;
    player.begin(Array.from({ length: number }, () => blankFrame([height, width])), body.prompt);
    const run = (_, index) =>
      runDrawing("/app/draw", { ...body, seed: seed + index }, signal, {
        queue: (ahead) => (player.status.textContent = ahead ? `In the queue: ${count(ahead, "request")} ahead of yours` : "Next in the queue"),
        frame: (frame, passes) => player.push(index, frame, passes),
      });
    try {
      const pictures = await Promise.all(Array.from({ length: number }, run));
      await player.seen(signal);
      [...pictures].reverse().forEach((picture) => session.add(picture));
      [this.picture] = pictures;
      const summary = `${count(pictures[0].passes, "pass")} in ${inSeconds(Math.max(...pictures.map((one) => one.seconds)))}, seed ${seed}`;
      player.end(summary, pictures);
      announce(`Finished: ${summary}`);
    } catch (error) {
      const cancelled = player.last ? `Cancelled after ${count(player.last, "pass")}` : "Cancelled before the first pass";
      player.end(error.name === "AbortError" ? cancelled : "Stopped");
      if (error.name !== "AbortError" && !player.last && this.picture) player.open(this.picture);
      showError(this.errors, error, () => this.draw());
    } finally {
      this.running.end();
    }
  }
}
