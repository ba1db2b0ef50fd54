// The same answer by Jacobi decoding and one token at a time. Each runs by itself; then both are shown on one clock.

import { calm, count, inSeconds, make } from "./dom.js";
import { askPasses, TokenView } from "./tokens.js";

const LANES = [
  { decoding: "jacobi", title: "Several at once" },
  { decoding: "autoregressive", title: "One by one" },
];
const SECONDS_OF_SHOW = 4;

/** Run the race in an element; `bodyFor(decoding)` returns the request of a lane. */
export async function race(element, bodyFor, signal) {
  const lanes = LANES.map(({ decoding, title }) => {
    const view = new TokenView({ replay: false });
    const clock = make("span", { class: "clock", textContent: "0 ms" });
    const bar = make("div", { class: "progress lane-bar", "aria-hidden": "true" }, make("span"));
    const lane = make("div", { class: "lane" }, make("div", { class: "row" }, make("h3", { textContent: title }), clock), bar, view.element);
    return { decoding, view, clock, bar: bar.firstChild, lane, passes: [] };
  });
  element.replaceChildren(...lanes.map((one) => one.lane));
  for (const one of lanes) {
    one.clock.textContent = "running";
    for await (const pass of askPasses(bodyFor(one.decoding), signal)) one.passes.push(pass);
    one.clock.textContent = "ready";
  }
  const slowest = Math.max(...lanes.map((one) => one.passes.at(-1).seconds));
  const stretch = Math.max(1, SECONDS_OF_SHOW / slowest);
  const begin = performance.now();
  for (;;) {
    if (signal.aborted) throw signal.reason;
    const now = calm() ? slowest : (performance.now() - begin) / 1000 / stretch;
    for (const one of lanes) {
      while (one.view.passes.length < one.passes.length && one.passes[one.view.passes.length].seconds <= now) one.view.push(one.passes[one.view.passes.length]);
      const last = one.passes.at(-1);
      const settled = one.view.last?.settled ?? 0;
      one.bar.style.width = `${(100 * settled) / last.settled}%`;
      const done = one.view.passes.length === one.passes.length;
      one.lane.classList.toggle("done", done);
      one.clock.textContent = inSeconds(done ? last.seconds : now);
    }
    if (now >= slowest) break;
    await new Promise(requestAnimationFrame);
  }
  const [fast, slow] = lanes.map((one) => one.passes.at(-1));
  const same = fast.text === slow.text ? "The same answer" : "Another answer";
  const words = `${same}: ${count(fast.pass, "pass")} instead of ${slow.pass}, ${(slow.seconds / fast.seconds).toFixed(1)} times as fast.${stretch > 1.5 ? ` Shown ${Math.round(stretch)} times slower than it was.` : ""}`;
  element.append(make("p", { class: "muted", role: "status", textContent: words }));
}
