// Form controls made from the option declarations that the server gives.

import { make } from "./dom.js";

const LABELS = { num_inference_steps: "Steps", guidance_scale: "Guidance", top_k: "Top-k", num_new_tokens: "Length", max_new_tokens: "Longest answer" };
const LARGEST_SLIDER = 64;
const SLIDERS = { num_inference_steps: { maximum: 16, step: 1 }, guidance_scale: { maximum: 10, step: 0.5 } };

const label = (option) => LABELS[option.name] ?? option.name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());

/** Hold the controls of some options. */
export class Controls {
  #fields = [];

  /** Show the options in an element; `prefix` keeps ids apart, `brief` leaves help to tooltips and screen readers. */
  constructor(element, options, prefix, { brief = false } = {}) {
    Object.assign(this, { element, prefix, brief });
    this.show(options);
  }

  show(options) {
    this.#fields = options.map((option) => this.#field(option));
    this.element.replaceChildren(...this.#fields.map((field) => field.element));
  }

  #field(option) {
    const id = `${this.prefix}-${option.name}`;
    const about = { id, "aria-describedby": `${id}-help` };
    const help = make("p", { id: `${id}-help`, class: this.brief ? "hidden" : "help", textContent: option.help });
    const field = { option };
    const name = make("label", { htmlFor: id, textContent: label(option), title: option.help });
    if (option.type === "boolean") {
      field.input = make("input", { ...about, type: "checkbox", checked: option.default });
      field.element = make("div", { class: "field check" }, make("div", { class: "row start" }, field.input, name), help);
      return field;
    }
    if (option.choices.length) {
      field.input = make("select", about, ...option.choices.map((choice) => make("option", { textContent: choice, selected: choice === option.default })));
    } else {
      field.input = make("input", { ...about, type: option.type === "text" ? "text" : "number", value: option.default ?? "", placeholder: option.optional ? "none" : "" });
      if (option.type !== "text") {
        field.input.step = option.type === "integer" ? 1 : "any";
        field.input.min = option.minimum ?? "";
        field.input.max = option.maximum ?? "";
        field.input.required = !option.optional;
      }
    }
    const slider = this.#slider(field, label(option));
    field.element = make("div", { class: "field" }, name, slider ? make("div", { class: "slider" }, slider, field.input) : field.input, help);
    return field;
  }

  /** Return a slider beside a number, if its range is short. */
  #slider({ option, input }, name) {
    const shape = SLIDERS[option.name] ?? (option.type === "integer" && option.maximum <= LARGEST_SLIDER ? { maximum: option.maximum, step: 1 } : null);
    if (!shape || option.optional) return null;
    const slider = make("input", { type: "range", min: option.minimum, max: shape.maximum, step: shape.step, "aria-label": `${name}, slider` });
    slider.value = option.default;
    slider.addEventListener("input", () => (input.value = slider.value));
    input.addEventListener("input", () => (slider.value = input.value));
    return slider;
  }

  /** Return the values that differ from their defaults, by name. */
  values() {
    const given = {};
    for (const { option, input } of this.#fields) {
      let value = option.type === "boolean" ? input.checked : input.value.trim();
      if (value === "") value = null;
      else if (option.type === "integer" || option.type === "number") value = Number(value);
      if (value !== option.default && !(value === null && !option.optional)) given[option.name] = value;
    }
    return given;
  }

  /** Set values by name; those that are left out take their defaults. */
  set(values) {
    for (const { option, input } of this.#fields) {
      const value = option.name in values ? values[option.name] : option.default;
      if (option.type === "boolean") input.checked = value;
      else input.value = value ?? "";
      input.dispatchEvent(new Event("input"));
    }
  }

  /** Return the control of an option, or undefined. */
  input(name) {
    return this.#fields.find((field) => field.option.name === name)?.input;
  }
}
