// The short explanation, live on the visitor's own prompt.

import { byId, count, inSeconds, make } from "./dom.js";
import { clearError, Running, showError, watchWorld } from "./notices.js";
import { numSettled, paint } from "./overlay.js";
import { randomSeed, session } from "./session.js";
import { askPasses, questionBody, TokenView } from "./tokens.js";
import { runDrawing } from "./trajectory.js";

const QUESTION = "Describe the image.";
const MOST_FRAMES = 6;

/** Show a trajectory as a row of pictures. */
function filmstrip(element, caption) {
  const row = make("div", { class: "film" });
  element.append(make("p", { class: "muted caption", textContent: caption }), row);
  return (picture) => {
    const { frames } = picture;
    const stride = Math.max(1, (frames.length - 1) / (MOST_FRAMES - 1));
    const shown = [...new Set(Array.from({ length: MOST_FRAMES }, (_, number) => Math.min(frames.length - 1, Math.round(number * stride))))];
    row.replaceChildren(
      ...shown.map((step) => {
        const settled = numSettled(frames[step]);
        const canvas = make("canvas", { role: "img", "aria-label": `After pass ${step}: ${settled} of ${frames[step].levels.length} codes settled` });
        requestAnimationFrame(() => paint(canvas, frames[step], frames[step - 1], { codes: true }));
        return make("figure", {}, canvas, make("figcaption", {}, step ? `pass ${step}` : "start", make("small", { textContent: `${settled} settled` })));
      }),
    );
  };
}

export class How {
  constructor() {
    this.prompt = byId("how-prompt");
    this.errors = byId("how-error");
    this.running = new Running(byId("how-go"), "Run it");
    byId("how-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.running.active) this.running.cancel();
      else this.run();
    });
    watchWorld(this.prompt, byId("how-world"));
    addEventListener("hashchange", () => this.#arrive());
    document.addEventListener("theme", () => this.repaint?.());
    this.#arrive();
  }

  /** Take over the newest prompt, and run it at the first visit. */
  #arrive() {
    if (location.hash !== "#how" || this.ran) return;
    this.ran = true;
    this.prompt.value = session.pictures.find((picture) => picture.prompt)?.prompt ?? session.model.world?.prompts[0] ?? "a picture";
    this.prompt.dispatchEvent(new Event("input"));
    this.run();
  }

  async run() {
    clearError(this.errors);
    const prompt = this.prompt.value.trim();
    const signal = this.running.begin();
    const figures = ["how-image", "how-text", "how-student"].map(byId);
    figures.forEach((figure) => figure.replaceChildren());
    try {
      const seed = randomSeed();
      const draw = (model, steps) => runDrawing("/app/draw", { model, prompt, seed, ...(steps ? { num_inference_steps: steps } : {}) }, signal);
      const show = filmstrip(figures[0], `“${prompt}”, drawn by ${session.model.name}`);
      const picture = await draw(session.model.name, 5);
      show(picture);
      session.add(picture);
      const view = new TokenView();
      figures[1].append(make("p", { class: "muted caption", textContent: `“${QUESTION}”` }), view.element);
      for await (const pass of askPasses(questionBody(session.model.name, picture.url, [], QUESTION, {}), signal)) view.push(pass);
      view.end();
      const family = session.family();
      if (family.length === 1) {
        figures[2].append(make("p", { class: "muted", textContent: "Start the server with a teacher and its student to see this live." }));
        return;
      }
      const last = [];
      for (const { role, model } of family) {
        const showRow = filmstrip(figures[2], "");
        const drawn = await draw(model.name);
        showRow(drawn);
        last.push(drawn);
        figures[2].lastElementChild.previousElementSibling.textContent = `${role.replace(/^./, (first) => first.toUpperCase())}, ${count(drawn.passes, "pass")}, ${inSeconds(drawn.seconds)}`;
      }
      view.replay();
    } catch (error) {
      showError(this.errors, error, () => this.run());
    } finally {
      this.running.end();
    }
  }
}
