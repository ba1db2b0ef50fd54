// The page that edits: repaint a part, extend at a side, vary; with undo.

import { announce, byId, count, icon, inSeconds, make } from "./dom.js";
import { drawExample } from "./ask.js";
import { download, showPictures } from "./gallery.js";
import { readFile, takeFiles } from "./images.js";
import { MaskPainter } from "./mask.js";
import { clearError, Running, showError, watchWorld } from "./notices.js";
import { blankFrame, Player } from "./player.js";
import { randomSeed, session } from "./session.js";
import { runDrawing } from "./trajectory.js";

const KINDS = { repaint: "Redraw", extend: "Extend", vary: "Vary" };

export class Edit {
  history = [];
  direction = "right";

  constructor() {
    this.prompt = byId("edit-prompt");
    this.errors = byId("edit-error");
    this.button = byId("edit-go");
    this.running = new Running(this.button, KINDS.repaint);
    this.player = new Player(byId("edit-player"), {
      empty: "Choose a picture: upload one, draw an example, or take one of this session.",
      actions: [
        make("button", { type: "button", textContent: "Use for a question", onclick: () => session.use(this.picture, "ask") }),
        make("button", { type: "button", textContent: "Download", onclick: () => download(this.picture) }),
      ],
    });
    this.painter = new MaskPainter(this.player.frame, () => this.#update());
    this.painter.canvas.hidden = true;
    const take = (read) => async (file) => {
      clearError(this.errors);
      try {
        const picture = await read(file);
        if (picture.kind === "upload") session.add(picture);
        this.open(picture);
      } catch (error) {
        showError(this.errors, error);
      }
    };
    takeFiles({ button: byId("edit-upload"), input: byId("edit-file"), target: this.player.frame, view: "view-edit", onfile: take(readFile) });
    byId("edit-drawn").addEventListener("click", take(() => drawExample()));
    byId("edit-brush").addEventListener("input", (event) => (this.painter.brush = Number(event.target.value)));
    byId("edit-clear").addEventListener("click", () => this.painter.clear());
    byId("edit-invert").addEventListener("click", () => this.painter.invert());
    byId("edit-strength").addEventListener("input", (event) => (byId("edit-strength-value").textContent = `${Math.round(event.target.value * 100)} %`));
    byId("edit-undo").addEventListener("click", () => this.undo());
    byId("view-edit").addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "z" && !event.target.matches("textarea, input")) this.undo();
    });
    byId("edit-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.running.active) this.running.cancel();
      else this.run();
    });
    for (const radio of document.getElementsByName("edit-kind")) radio.addEventListener("change", () => this.#update());
    byId("view-edit").querySelector(".compass").append(
      ...session.info.directions.map((direction) => {
        const input = make("input", { type: "radio", name: "edit-side", value: direction, checked: direction === this.direction, onchange: () => (this.direction = direction) });
        return make("label", { class: `side ${direction}` }, input, make("span", {}, icon(direction), make("span", { class: "hidden", textContent: direction })));
      }),
    );
    showPictures(byId("edit-pictures"), (picture) => this.open(picture));
    watchWorld(this.prompt, byId("edit-world"));
    session.addEventListener("use-edit", (event) => this.open(event.detail));
    session.addEventListener("use-vary", (event) => {
      this.#choose("vary");
      this.open(event.detail);
    });
    this.#update();
  }

  get kind() {
    return document.querySelector("[name=edit-kind]:checked").value;
  }

  #choose(kind) {
    document.querySelector(`[name=edit-kind][value=${kind}]`).checked = true;
  }

  #update() {
    const { kind } = this;
    for (const name of Object.keys(KINDS)) byId(`edit-${name}`).hidden = name !== kind;
    this.running.text = KINDS[kind];
    if (!this.running.active) this.button.textContent = KINDS[kind];
    this.painter.canvas.hidden = kind !== "repaint" || !this.picture || this.running.active;
    this.painter.paint();
    byId("edit-undo").disabled = this.history.length === 0 || this.running.active;
  }

  /** Start with a picture; nothing can be undone. */
  open(picture) {
    this.running.cancel();
    this.history = [];
    this.#show(picture);
    if (picture.prompt) this.prompt.value = picture.prompt;
    else if (!this.prompt.value) this.prompt.value = session.model.world?.prompts[0] ?? "";
    this.prompt.dispatchEvent(new Event("input"));
    clearError(this.errors);
  }

  #show(picture) {
    this.picture = picture;
    this.player.open(picture);
    this.painter.reset(picture.grid);
    this.#update();
  }

  undo() {
    if (!this.history.length || this.running.active) return;
    this.#show(this.history.pop());
    announce("Undone");
  }

  /** Return the request, and the frame before its first pass. */
  #request() {
    const { picture, kind } = this;
    const source = picture.codes && session.sharesCodes(picture.model) ? { codes: picture.codes } : { image: picture.url };
    const body = { model: session.model.name, prompt: this.prompt.value.trim(), seed: randomSeed(), ...source };
    const image = picture.frames.at(-1).image;
    const [rows, columns] = picture.grid;
    if (kind === "repaint") {
      if (!this.painter.painted.size) throw new Error("Nothing is painted yet: paint over what is to be drawn anew.");
      const mask = this.painter.rows();
      const levels = mask.flat().map((painted) => (painted ? "0" : "2")).join("");
      return [{ ...body, mask }, blankFrame(picture.grid, levels, image)];
    }
    if (kind === "vary") return [{ ...body, strength: Number(byId("edit-strength").value) }, blankFrame(picture.grid, "2".repeat(rows * columns), image)];
    const added = Math.floor(session.model.grid / 2);
    const wide = ["left", "right"].includes(this.direction);
    const grid = wide ? [rows, columns + added] : [rows + added, columns];
    return [{ ...body, direction: [this.direction] }, blankFrame(grid)];
  }

  async run() {
    if (!this.picture) return showError(this.errors, new Error("There is no picture yet: upload one, or draw an example."));
    clearError(this.errors);
    let request;
    try {
      request = this.#request();
    } catch (error) {
      return showError(this.errors, error);
    }
    const [body, start] = request;
    const { player, picture } = this;
    const words = { repaint: "Repainted", extend: "Extended", vary: "Varied" }[this.kind];
    const signal = this.running.begin();
    this.#update();
    player.begin([start], `${words}: ${body.prompt}`);
    try {
      const on = {
        queue: (ahead) => (player.status.textContent = ahead ? `In the queue: ${count(ahead, "request")} ahead of yours` : "Next in the queue"),
        frame: (frame, passes) => player.push(0, frame, passes),
      };
      const edited = await runDrawing("/app/edit", body, signal, on, start);
      await player.seen(signal);
      this.history.push(picture);
      session.add(edited);
      this.picture = edited;
      this.painter.reset(edited.grid);
      const summary = `${words} in ${count(edited.passes, "pass")}, ${inSeconds(edited.seconds)}`;
      player.end(summary, [edited]);
      announce(summary);
    } catch (error) {
      player.open(picture);
      if (error.name === "AbortError") player.status.textContent = "Cancelled: the picture is as it was";
      showError(this.errors, error, () => this.run());
    } finally {
      this.running.end();
      this.#update();
    }
    return undefined;
  }
}
