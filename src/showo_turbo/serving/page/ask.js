// The page that answers questions about a picture.

import { announce, byId, count, make } from "./dom.js";
import { Controls } from "./controls.js";
import { showPictures } from "./gallery.js";
import { readFile, takeFiles, takePhoto } from "./images.js";
import { clearError, Running, showError, showExamples, watchWorld } from "./notices.js";
import { race } from "./race.js";
import { randomSeed, session } from "./session.js";
import { askPasses, questionBody, TokenView } from "./tokens.js";
import { runDrawing } from "./trajectory.js";

/** Draw an example of the model's world. */
export async function drawExample(signal) {
  const prompts = session.model.world?.prompts ?? ["a picture"];
  const prompt = prompts[Math.floor(Math.random() * prompts.length)];
  const picture = await runDrawing("/app/draw", { model: session.model.name, prompt, seed: randomSeed() }, signal);
  session.add(picture);
  return picture;
}

export class Ask {
  turns = [];
  picture = null;

  constructor() {
    this.question = byId("ask-question");
    this.errors = byId("ask-error");
    this.list = byId("ask-turns");
    this.running = new Running(byId("ask-go"), "Ask");
    this.racing = new Running(byId("race-go"), "Start the race");
    this.options = new Controls(byId("ask-options"), session.model.decoding, "ask");
    const take = (read) => async (file) => {
      clearError(this.errors);
      try {
        const picture = await read(file);
        if (!picture) return;
        if (picture.kind === "upload") session.add(picture);
        this.look(picture);
      } catch (error) {
        showError(this.errors, error);
      }
    };
    takeFiles({ button: byId("ask-upload"), input: byId("ask-file"), target: byId("ask-drop"), view: "view-ask", onfile: take(readFile) });
    byId("ask-camera").hidden = !navigator.mediaDevices?.getUserMedia;
    byId("ask-camera").addEventListener("click", take(takePhoto));
    byId("ask-drawn").addEventListener("click", take(() => drawExample()));
    byId("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.running.active) this.running.cancel();
      else this.ask();
    });
    byId("race-go").addEventListener("click", () => (this.racing.active ? this.racing.cancel() : this.race()));
    session.addEventListener("use-ask", (event) => this.look(event.detail));
    session.addEventListener("model", () => this.showModel());
    showPictures(byId("ask-pictures"), (picture) => this.look(picture));
    watchWorld(this.question, byId("ask-world"));
    this.showModel();
  }

  showModel() {
    const questions = [...new Set(session.model.world?.questions ?? ["What is in the image?", "Describe the image."])];
    showExamples(byId("ask-examples"), questions.slice(-4).reverse(), this.question);
    byId("ask-follow").checked = session.model.world === null;
    if (!this.question.value) this.question.value = questions.at(-1);
    this.question.dispatchEvent(new Event("input"));
  }

  /** Start a dialogue about a picture. */
  look(picture) {
    this.running.cancel();
    this.racing.cancel();
    this.picture = picture;
    this.turns = [];
    this.list.replaceChildren();
    byId("race-lanes").replaceChildren();
    clearError(this.errors);
    const image = byId("ask-image");
    image.src = picture.url;
    image.alt = picture.title ?? `Drawn: ${picture.prompt}`;
    image.hidden = false;
    byId("ask-empty").hidden = true;
  }

  #needsPicture() {
    if (this.picture) return false;
    showError(this.errors, new Error("There is no picture yet: upload or paste one, or draw an example."));
    return true;
  }

  async ask() {
    if (this.#needsPicture()) return;
    const question = this.question.value.trim();
    clearError(this.errors);
    const view = new TokenView();
    const status = make("p", { class: "muted", role: "status" });
    const turn = make("li", { class: "turn" }, make("p", { class: "asked", textContent: question }), view.element, status);
    this.list.append(turn);
    const signal = this.running.begin();
    try {
      const body = questionBody(session.model.name, this.picture.url, byId("ask-follow").checked ? this.turns : [], question, this.options.values());
      const on = { queue: (ahead) => (status.textContent = ahead ? `In the queue: ${count(ahead, "request")} ahead of yours` : "Next in the queue") };
      let answer = "";
      for await (const pass of askPasses(body, signal, on)) {
        status.textContent = "";
        view.push(pass);
        answer = pass.text;
      }
      view.end();
      this.turns.push({ question, answer });
      announce(`Answer: ${answer}`);
      this.question.value = "";
      turn.scrollIntoView({ block: "nearest" });
      await view.replay();
    } catch (error) {
      view.end();
      status.textContent = error.name === "AbortError" ? "Cancelled" : "";
      if (error.name !== "AbortError") turn.remove();
      showError(this.errors, error, () => {
        this.question.value = question;
        this.ask();
      });
    } finally {
      this.running.end();
    }
  }

  async race() {
    const errors = byId("race-error");
    clearError(errors);
    if (this.#needsPicture()) return;
    const question = this.question.value.trim() || this.turns.at(-1)?.question || "Describe the image.";
    const signal = this.racing.begin();
    try {
      const bodyFor = (decoding) => questionBody(session.model.name, this.picture.url, [], question, { ...this.options.values(), decoding });
      await race(byId("race-lanes"), bodyFor, signal);
    } catch (error) {
      byId("race-lanes").replaceChildren();
      showError(errors, error, () => this.race());
    } finally {
      this.racing.end();
    }
  }
}
