// Paint codes that are to be drawn anew, by pointer or by keyboard, on top of a picture.

import { make } from "./dom.js";

export class MaskPainter {
  painted = new Set();
  cursor = [0, 0];
  brush = 2;
  #erases = false;
  #last = null;

  /** Put the painter over an element; `onchange()` is called when codes are painted. */
  constructor(host, onchange) {
    this.onchange = onchange;
    this.canvas = make("canvas", { class: "mask", tabIndex: 0, role: "application", "aria-label": "Mask of what is to be drawn anew", "aria-describedby": "edit-repaint-help" });
    host.append(this.canvas);
    this.canvas.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.canvas.focus({ preventScroll: true });
      this.canvas.setPointerCapture(event.pointerId);
      const cell = this.#cell(event);
      this.#erases = event.button === 2 || (this.brush === 1 && this.painted.has(this.#index(cell)));
      this.#last = cell;
      this.#dab(cell);
    });
    this.canvas.addEventListener("pointermove", (event) => this.#last && this.#stroke(this.#cell(event)));
    for (const name of ["pointerup", "pointercancel"]) this.canvas.addEventListener(name, () => (this.#last = null));
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    for (const name of ["focus", "blur"]) this.canvas.addEventListener(name, () => this.paint());
    new ResizeObserver(() => this.paint()).observe(this.canvas);
  }

  /** Cover a grid of rows and columns; nothing is painted. */
  reset(grid) {
    this.grid = grid;
    this.painted.clear();
    this.cursor = [Math.floor(grid[0] / 2), Math.floor(grid[1] / 2)];
    this.paint();
  }

  invert() {
    const [rows, columns] = this.grid;
    this.painted = new Set(Array.from({ length: rows * columns }, (_, index) => index).filter((index) => !this.painted.has(index)));
    this.#changed();
  }

  clear() {
    this.painted.clear();
    this.#changed();
  }

  /** Return the mask as rows of 0 and 1. */
  rows() {
    const [rows, columns] = this.grid;
    return Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (__, column) => Number(this.painted.has(row * columns + column))));
  }

  #index([row, column]) {
    return row * this.grid[1] + column;
  }

  #cell(event) {
    const box = this.canvas.getBoundingClientRect();
    const place = (offset, length, size) => Math.max(0, Math.min(size - 1, Math.floor((offset / length) * size)));
    return [place(event.clientY - box.top, box.height, this.grid[0]), place(event.clientX - box.left, box.width, this.grid[1])];
  }

  /** Paint from the last cell to another, also where a fast pointer has skipped some. */
  #stroke(cell) {
    const [down, right] = [cell[0] - this.#last[0], cell[1] - this.#last[1]];
    const dabs = Math.max(Math.abs(down), Math.abs(right));
    for (let dab = 1; dab <= dabs; dab += 1) this.#dab([Math.round(this.#last[0] + (down * dab) / dabs), Math.round(this.#last[1] + (right * dab) / dabs)]);
    this.#last = cell;
  }

  #dab([row, column]) {
    const before = Math.floor((this.brush - 1) / 2);
    for (let r = row - before; r < row - before + this.brush; r += 1) {
      for (let c = column - before; c < column - before + this.brush; c += 1) {
        if (r < 0 || c < 0 || r >= this.grid[0] || c >= this.grid[1]) continue;
        if (this.#erases) this.painted.delete(this.#index([r, c]));
        else this.painted.add(this.#index([r, c]));
      }
    }
    this.cursor = [row, column];
    this.#changed();
  }

  #key(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key in moves) {
      const [down, right] = moves[event.key];
      const [row, column] = this.cursor;
      this.cursor = [Math.max(0, Math.min(this.grid[0] - 1, row + down)), Math.max(0, Math.min(this.grid[1] - 1, column + right))];
      this.paint();
    } else if (event.key === " ") {
      this.#erases = this.painted.has(this.#index(this.cursor));
      this.#dab(this.cursor);
    } else return;
    event.preventDefault();
  }

  #changed() {
    this.canvas.setAttribute("aria-label", `Mask of what is to be drawn anew: ${this.painted.size} of ${this.grid[0] * this.grid[1]} codes`);
    this.paint();
    this.onchange?.();
  }

  paint() {
    if (!this.grid) return;
    const [rows, columns] = this.grid;
    const { canvas } = this;
    canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const [w, h] = [canvas.width / columns, canvas.height / rows];
    context.strokeStyle = "rgb(128 128 128 / 0.25)";
    context.lineWidth = 1;
    for (let row = 1; row < rows; row += 1) context.strokeRect(-1, Math.round(row * h) + 0.5, canvas.width + 2, 0);
    for (let column = 1; column < columns; column += 1) context.strokeRect(Math.round(column * w) + 0.5, -1, 0, canvas.height + 2);
    for (const index of this.painted) {
      const [x, y] = [(index % columns) * w, Math.floor(index / columns) * h];
      context.globalAlpha = 0.82;
      context.fillStyle = style.getPropertyValue("--mask").trim();
      context.fillRect(x, y, w, h);
      context.globalAlpha = 1;
      context.fillStyle = style.getPropertyValue("--accent-strong").trim();
      context.beginPath();
      context.arc(x + w / 2, y + h / 2, Math.max(2, w * 0.07), 0, 2 * Math.PI);
      context.fill();
    }
    if (document.activeElement === canvas && canvas.matches(":focus-visible")) {
      context.strokeStyle = style.getPropertyValue("--accent-strong").trim();
      context.lineWidth = Math.max(2, w * 0.06);
      context.strokeRect(this.cursor[1] * w + 2, this.cursor[0] * h + 2, w - 4, h - 4);
    }
  }
}
