// Run a request that draws, and follow it pass by pass.

import { stream } from "./api.js";
import { blankFrame } from "./overlay.js";

export async function loadImage(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

/**
 * Run a request and return the picture.
 *
 * on: functions `accepted({passes, seed, warnings})`, `queue(ahead)` and `frame(frame, passes)`; each may be left out.
 */
export async function runDrawing(path, body, signal, on = {}, start = null) {
  const frames = start ? [start] : [];
  let accepted = { passes: 0, warnings: [] };
  for await (const [name, data] of stream(path, body, signal)) {
    if (name === "accepted") {
      accepted = data;
      on.accepted?.(data);
    } else if (name === "queue") {
      on.queue?.(data.ahead);
    } else {
      const frame = { image: await loadImage(data.images[0]), levels: data.levels[0], grid: data.grid, pass: data.pass, seconds: data.seconds };
      if (!frames.length) frames.push(blankFrame(data.grid));
      frames.push(frame);
      on.frame?.(frame, accepted.passes);
      if (data.done) {
        return {
          id: crypto.randomUUID?.() ?? String(Math.random()),
          kind: path === "/app/draw" ? "draw" : "edit",
          model: accepted.model,
          seed: accepted.seed,
          warnings: accepted.warnings,
          prompt: body.prompt,
          body,
          url: data.images[0],
          codes: data.codes[0],
          grid: data.grid,
          size: data.size,
          seconds: data.seconds,
          passes: data.pass,
          frames,
        };
      }
    }
  }
  throw new Error("a stream ends with its last pass");
}
