/** Drives a headless Chromium over its debugging pipe; no package is needed. */

import { spawn } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The Chromium of this machine: $CHROMIUM, or the first of its names on the PATH; null without. */
export function findChromium() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    for (const folder of (process.env.PATH ?? "").split(":")) {
      try {
        accessSync(join(folder, name), constants.X_OK);
        return join(folder, name);
      } catch {
        // Not here.
      }
    }
  }
  return null;
}

/** A browser with one tab. */
export class Chromium {
  #child;
  #profile = mkdtempSync(join(tmpdir(), "undiffuse-chromium-"));
  #next = 1;
  #waiting = new Map();
  #listeners = [];
  #session;

  static async start(path) {
    const browser = new Chromium();
    await browser.#start(path);
    return browser;
  }

  async #start(path) {
    const flags = ["--headless=new", "--remote-debugging-pipe", `--user-data-dir=${this.#profile}`, "--no-first-run"];
    flags.push("--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio");
    // Chromium's sandbox does not start for root.
    if (process.getuid?.() === 0) flags.push("--no-sandbox");
    this.#child = spawn(path, [...flags, "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.#child.on("exit", (code) => this.#fail(new Error(`Chromium ended with ${code}`)));
    this.#child.on("error", (e) => this.#fail(e));
    let text = "";
    this.#child.stdio[4].setEncoding("utf8").on("data", (piece) => {
      text += piece;
      for (let end = text.indexOf("\0"); end >= 0; end = text.indexOf("\0")) {
        this.#receive(JSON.parse(text.slice(0, end)));
        text = text.slice(end + 1);
      }
    });
    const { targetInfos } = await this.send("Target.getTargets");
    const { targetId } = targetInfos.find((t) => t.type === "page") ?? (await this.send("Target.createTarget", { url: "about:blank" }));
    this.#session = (await this.send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
    for (const domain of ["Page", "Runtime", "Network", "Log"]) await this.send(`${domain}.enable`);
  }

  /** A command of the DevTools protocol. */
  send(method, params = {}) {
    const id = this.#next++;
    const promise = new Promise((resolve, reject) => this.#waiting.set(id, { method, resolve, reject }));
    this.#child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: this.#session })}\0`);
    return promise;
  }

  /** Calls back for each event of this name. */
  on(method, callback) {
    this.#listeners.push({ method, callback });
  }

  /** The value of an expression in the page, awaited. */
  async evaluate(expression) {
    const answer = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true, userGesture: true });
    const { exceptionDetails: fault } = answer;
    if (fault) throw new Error(fault.exception?.description ?? fault.text);
    return answer.result.value;
  }

  /** Waits until an expression in the page is true. */
  async until(expression, seconds = 60) {
    const end = Date.now() + 1000 * seconds;
    while (!(await this.evaluate(`!!(${expression})`))) {
      if (Date.now() > end) throw new Error(`after ${seconds} s still not: ${expression}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Opens an address and waits for its load event. */
  async open(url) {
    const loaded = new Promise((resolve) => this.#listeners.push({ method: "Page.loadEventFired", callback: resolve }));
    const { errorText } = await this.send("Page.navigate", { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
    await loaded;
  }

  /** A picture of the page, as PNG. */
  async screenshot(width, height) {
    await this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
    return Buffer.from((await this.send("Page.captureScreenshot", { format: "png" })).data, "base64");
  }

  async version() {
    return (await this.send("Browser.getVersion")).product;
  }

  async close() {
    this.#child.removeAllListeners("exit");
    const ended = new Promise((resolve) => this.#child.on("exit", resolve));
    this.#child.kill();
    await ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  #receive({ id, method, params, result, error }) {
    if (id === undefined) {
      for (const listener of this.#listeners) if (listener.method === method) listener.callback(params);
      return;
    }
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(new Error(`${waiting.method}: ${error.message}`));
    else waiting?.resolve(result);
  }

  #fail(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
