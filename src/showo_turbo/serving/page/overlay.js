// Paint a picture on its way: codes that are masked, guessed, settled in this pass, and settled before.

const MASKED = "0";
const SETTLED = "2";

function colours(canvas) {
  const style = getComputedStyle(canvas);
  return { surface: style.getPropertyValue("--mask").trim(), dot: style.getPropertyValue("--mask-dot").trim(), accent: style.getPropertyValue("--settled").trim() };
}

/** Fit the pixels of a canvas to its size on the screen and the shape of a grid. */
export function fit(canvas, [rows, columns]) {
  canvas.style.aspectRatio = `${columns} / ${rows}`;
  const width = Math.round(canvas.clientWidth * devicePixelRatio);
  const height = Math.round((width * rows) / columns);
  if (width && (canvas.width !== width || canvas.height !== height)) Object.assign(canvas, { width, height });
}

/**
 * Paint a frame.
 *
 * codes: whether the codes are shown; pixels: whether pixels stay square; progress: 0 to 1 on the way from the frame before.
 */
export function paint(canvas, frame, before, { codes = true, pixels = false, progress = 1 } = {}) {
  fit(canvas, frame.grid);
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  if (!width) return;
  const { surface, dot, accent } = colours(canvas);
  context.imageSmoothingEnabled = !pixels;
  context.imageSmoothingQuality = "high";
  context.fillStyle = surface;
  context.fillRect(0, 0, width, height);
  if (before?.image && progress < 1) context.drawImage(before.image, 0, 0, width, height);
  if (frame.image) {
    context.globalAlpha = before?.image ? progress : 1;
    context.drawImage(frame.image, 0, 0, width, height);
    context.globalAlpha = 1;
  }
  const [rows, columns] = frame.grid;
  const finished = !frame.levels.includes("1") && !frame.levels.includes(MASKED);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const level = frame.levels[row * columns + column];
      const old = before?.levels[row * columns + column] ?? MASKED;
      const x = Math.round((column * width) / columns);
      const y = Math.round((row * height) / rows);
      const w = Math.round(((column + 1) * width) / columns) - x;
      const h = Math.round(((row + 1) * height) / rows) - y;
      if (level === MASKED || (codes && level !== SETTLED)) {
        context.globalAlpha = level === MASKED ? 1 : 0.6;
        context.fillStyle = surface;
        context.fillRect(x, y, w, h);
        context.globalAlpha = 1;
        context.fillStyle = dot;
        const radius = Math.max(1, w * (level === MASKED ? 0.06 : 0.045));
        context.beginPath();
        context.arc(x + w / 2, y + h / 2, radius, 0, 2 * Math.PI);
        context.fill();
      } else if (codes && old !== SETTLED && !(finished && progress === 1)) {
        const line = Math.max(1.5, w * 0.055);
        context.globalAlpha = 1 - 0.15 * progress;
        context.lineWidth = line;
        context.strokeStyle = accent;
        context.strokeRect(x + line, y + line, w - 2 * line, h - 2 * line);
        context.globalAlpha = 1;
      }
    }
  }
}

/** Return the frame before the first pass: all codes masked, or those of a picture that is edited. */
export function blankFrame(grid, levels = MASKED.repeat(grid[0] * grid[1]), image = null) {
  return { image, levels, grid, pass: 0, seconds: 0 };
}

export const numSettled = (frame) => frame.levels.split(SETTLED).length - 1;
