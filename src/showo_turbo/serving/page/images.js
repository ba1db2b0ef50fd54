// Pictures that visitors bring: files, pasted or dropped ones, and those of a camera.

import { byId, make } from "./dom.js";
import { session } from "./session.js";
import { blankFrame } from "./overlay.js";
import { loadImage } from "./trajectory.js";

const TYPES = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];

const readUrl = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

/** Return the central square of an image, as models see it, no larger than needed. */
function centralSquare(image, side) {
  const length = Math.min(image.naturalWidth ?? image.videoWidth, image.naturalHeight ?? image.videoHeight);
  const left = ((image.naturalWidth ?? image.videoWidth) - length) / 2;
  const top = ((image.naturalHeight ?? image.videoHeight) - length) / 2;
  const size = Math.min(length, side);
  const canvas = make("canvas", { width: size, height: size });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, size, size);
  context.drawImage(image, left, top, length, length, 0, 0, size, size);
  return canvas.toDataURL("image/png");
}

async function newPicture(url, title) {
  const { grid } = session.model;
  const image = await loadImage(url);
  const frame = { ...blankFrame([grid, grid], "2".repeat(grid * grid), image) };
  return { id: String(Math.random()), kind: "upload", model: null, prompt: "", title, url, codes: null, grid: [grid, grid], size: [image.naturalWidth, image.naturalHeight], seconds: 0, passes: 0, frames: [frame] };
}

/** Return a picture of a file. Raises an error in words if it is none. */
export async function readFile(file) {
  const { limits } = session.info;
  const name = file.name || "The file";
  if (!TYPES.includes(file.type)) throw new Error(`${name} is no picture that can be read: give a PNG, JPEG, WebP, GIF or BMP file.`);
  if (file.size > limits.max_body * 2 ** 20 * 0.7) throw new Error(`${name} is too large: give at most ${Math.floor(limits.max_body * 0.7)} MB.`);
  let image;
  try {
    image = await loadImage(await readUrl(file));
  } catch {
    throw new Error(`${name} cannot be read as a picture: it may be damaged. Give a whole PNG, JPEG, WebP, GIF or BMP file.`);
  }
  return newPicture(centralSquare(image, 8 * session.model.resolution), file.name || "Pasted picture");
}

/** Take pictures from a button with a file input, by dropping and, while a view is shown, by pasting. */
export function takeFiles({ button, input, target, view, onfile }) {
  const first = (files) => files?.length && onfile(files[0]);
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    first(input.files);
    input.value = "";
  });
  target.addEventListener("dragover", (event) => {
    event.preventDefault();
    target.classList.add("over");
  });
  target.addEventListener("dragleave", () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    target.classList.remove("over");
    first(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => !byId(view).hidden && first(event.clipboardData?.files));
}

/** Show the camera in a dialog and return a picture, or null if the visitor closes it. */
export async function takePhoto() {
  let camera;
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 640 } });
  } catch {
    throw new Error("The camera cannot be used: allow it in the browser, or upload a picture.");
  }
  const video = make("video", { autoplay: true, muted: true, playsInline: true, srcObject: camera });
  const dialog = make("dialog", { class: "camera", "aria-label": "Camera" }, video, make("form", { method: "dialog", class: "row" }, make("button", { class: "primary", value: "take", textContent: "Take the picture" }), make("button", { value: "", textContent: "Close" })));
  document.body.append(dialog);
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  const taken = dialog.returnValue === "take" && video.videoWidth ? await newPicture(centralSquare(video, 8 * session.model.resolution), "Camera picture") : null;
  camera.getTracks().forEach((track) => track.stop());
  dialog.remove();
  return taken;
}
