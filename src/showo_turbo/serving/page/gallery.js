// The pictures of the session.

import { json } from "./api.js";
import { make } from "./dom.js";
import { session } from "./session.js";

/** Keep a list of the session's pictures; `onpick(picture)` is told which is chosen. */
export function showPictures(element, onpick) {
  const update = () => {
    element.replaceChildren(
      ...session.pictures.map((picture) => {
        const words = picture.title ?? picture.prompt;
        const image = make("img", { src: picture.url, alt: "" });
        const small = element.classList.contains("small");
        const button = make("button", { type: "button", class: "tile", title: words, "aria-label": small ? `Picture: ${words}` : null, onclick: () => onpick(picture) }, image);
        if (!small) button.append(make("span", { textContent: words }), make("small", { textContent: picture.body ? `seed ${picture.seed} · ${picture.passes} passes` : "uploaded" }));
        return button;
      }),
    );
    element.parentElement.hidden = element.parentElement.classList.contains("gallery") && session.pictures.length === 0;
  };
  session.addEventListener("pictures", update);
  update();
}

function save(url, name) {
  make("a", { href: url, download: name }).click();
}

/** Download a picture and, if it can be drawn again from its settings, the sidecar file with them. */
export async function download(picture) {
  const name = (picture.title ?? picture.prompt).toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 40).replace(/^-|-$/g, "") || "picture";
  const stem = `${name}-${picture.seed ?? "0"}`;
  save(picture.url, `${stem}.png`);
  if (picture.kind !== "draw") return;
  const settings = await json("/app/sidecar", { ...picture.body, seed: picture.seed });
  const url = URL.createObjectURL(new Blob([JSON.stringify(settings, null, 2)], { type: "application/json" }));
  save(url, `${stem}.json`);
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
