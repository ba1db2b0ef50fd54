// Requests to the server: JSON, and streams of server-sent events that can be cancelled.

import { byId } from "./dom.js";
import { connection } from "./connection.js";

/** An error in the server's words. */
export class ServerError extends Error {
  constructor(status, { message, param, code } = {}) {
    super(message ?? `The server answered with status ${status}.`);
    Object.assign(this, { status, param, code });
  }
}

/** The server did not answer, or stopped in the middle. */
export class AwayError extends Error {
  constructor() {
    super("The server is not answering. What you have drawn is still here.");
  }
}

function headers() {
  const key = sessionStorage.getItem("key");
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

function askForKey() {
  const dialog = byId("key-dialog");
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(sessionStorage.setItem("key", byId("key").value)), { once: true });
    if (!dialog.open) dialog.showModal();
  });
}

async function request(path, body, signal) {
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", body: body && JSON.stringify(body), headers: headers(), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    connection.lost();
    throw new AwayError();
  }
  if (response.status === 401) {
    await askForKey();
    return request(path, body, signal);
  }
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({}));
    throw new ServerError(response.status, error);
  }
  return response;
}

export async function json(path, body) {
  return (await request(path, body)).json();
}

/** Yield the events of a stream as [name, data]. */
export async function* stream(path, body, signal) {
  const reader = (await request(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let done = false;
  try {
    for (;;) {
      const part = await reader.read();
      if (part.done) break;
      const blocks = (text + part.value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const name = /^event: (.*)$/m.exec(block)?.[1];
        const data = JSON.parse(/^data: (.*)$/m.exec(block)[1]);
        if (data.error) throw new ServerError(0, data.error);
        done ||= data.done === true;
        yield [name, data];
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ServerError) throw error;
    connection.lost();
    throw new AwayError();
  } finally {
    if (done) while (!(await reader.read()).done);  // to its end, so that the connection can be used again
    else reader.cancel().catch(() => {});
  }
  if (!done) {
    connection.lost();
    throw new AwayError();
  }
}
