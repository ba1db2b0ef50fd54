// One seed at 1, 2, 4, 8 and 16 steps: teacher and student side by side, with seconds.

import { announce, inSeconds, make } from "./dom.js";
import { clearError, Running, showError } from "./notices.js";
import { blankFrame, paint } from "./overlay.js";
import { session } from "./session.js";
import { runDrawing } from "./trajectory.js";

const STEPS = [1, 2, 4, 8, 16];

export class Compare {
  constructor(element, button, errors) {
    Object.assign(this, { element, button, errors, running: new Running(button, "Compare steps") });
  }

  hide() {
    this.running.cancel();
    this.element.hidden = true;
  }

  toggle(prompt, seed) {
    if (this.running.active) this.running.cancel();
    else this.run(prompt, seed);
  }

  #table(rows, steps, prompt, seed) {
    const cells = rows.map(({ model }) => steps.map(() => ({ canvas: make("canvas", { role: "img", "aria-label": "Not drawn yet" }), time: make("span", { class: "time", textContent: "–" }), grid: [model.grid, model.grid] })));
    const head = make("tr", { role: "row" }, make("td", { role: "cell" }), ...steps.map((step) => make("th", { scope: "col", role: "columnheader" }, String(step), make("small", { textContent: step === 1 ? "step" : "steps" }))));
    const body = rows.map(({ role, model }, row) =>
      make("tr", { role: "row" }, make("th", { scope: "row", role: "rowheader" }, role.replace(/^./, (first) => first.toUpperCase()), make("small", { textContent: model.name })), ...cells[row].map((cell) => make("td", { role: "cell" }, cell.canvas, cell.time))),
    );
    const alone = rows.length === 1 ? make("p", { class: "muted", textContent: "Start the server with a teacher and its student to see them side by side." }) : null;
    this.status = make("p", { class: "muted", role: "status" });
    this.element.replaceChildren(make("div", { class: "card" }, make("h2", { textContent: "The same seed, more steps" }), make("p", { class: "muted", textContent: `${prompt} · seed ${seed}` }), make("div", { class: "table", tabIndex: 0, role: "region", "aria-label": "Comparison" }, make("table", { class: "compare", role: "table" }, make("thead", { role: "rowgroup" }, head), make("tbody", { role: "rowgroup" }, ...body))), this.status, alone));
    this.element.hidden = false;
    cells.flat().forEach((cell) => paint(cell.canvas, blankFrame(cell.grid)));
    return cells;
  }

  async run(prompt, seed) {
    clearError(this.errors);
    const rows = session.family();
    const steps = STEPS.filter((step) => rows.every(({ model }) => step <= model.sampling.find((one) => one.name === "num_inference_steps").maximum));
    const signal = this.running.begin();
    const cells = this.#table(rows, steps, prompt, seed);
    try {
      for (const [column, step] of steps.entries()) {
        for (const [row, { role, model }] of rows.entries()) {
          this.status.textContent = `Drawing with the ${role} in ${step} ${step === 1 ? "step" : "steps"}`;
          const cell = cells[row][column];
          cell.time.textContent = "…";
          const picture = await runDrawing("/app/draw", { model: model.name, prompt, seed, num_inference_steps: step }, signal, {
            frame: (frame) => paint(cell.canvas, frame, null, { codes: false }),
          });
          cell.time.textContent = inSeconds(picture.seconds);
          cell.canvas.setAttribute("aria-label", `${prompt}, ${role}, ${step} steps`);
        }
      }
      this.status.textContent = "Each picture was drawn by itself, so the seconds can be compared.";
      announce("The comparison is finished");
    } catch (error) {
      this.status.textContent = error.name === "AbortError" ? "Cancelled" : "Stopped";
      showError(this.errors, error, () => this.run(prompt, seed));
    } finally {
      this.running.end();
    }
  }
}
