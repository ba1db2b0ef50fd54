// What the page holds for this visitor: the server's description, the chosen model, and the pictures of the session.

class Session extends EventTarget {
  info = null;
  pictures = [];
  #model = null;

  start(info) {
    this.info = info;
    this.#model = info.models[0];
  }

  get model() {
    return this.#model;
  }

  choose(name) {
    this.#model = this.find(name);
    this.dispatchEvent(new Event("model"));
  }

  find(name) {
    return this.info.models.find((model) => model.name === name);
  }

  /** Return teacher and student of a model's pair, or the model alone. */
  family() {
    const name = this.#model.name;
    const pair = this.info.pairs.find((one) => one.teacher === name || one.student === name);
    if (!pair) return [{ role: "model", model: this.#model }];
    return [
      { role: "teacher", model: this.find(pair.teacher) },
      { role: "student", model: this.find(pair.student) },
    ];
  }

  /** Whether a model reads the codes of another: those of a pair share their image tokenizer. */
  sharesCodes(name) {
    return name === this.#model.name || this.family().some((one) => one.model.name === name);
  }

  add(picture) {
    this.pictures.unshift(picture);
    this.dispatchEvent(new Event("pictures"));
  }

  /** Ask another page to use a picture: "draw", "vary", "ask" or "edit". */
  use(picture, purpose) {
    this.dispatchEvent(new CustomEvent(`use-${purpose}`, { detail: picture }));
  }
}

export const session = new Session();

/** Return a seed as a number that JSON holds exactly. */
export const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
