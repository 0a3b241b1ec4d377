/**
 * A small web server for a folder, since browsers start no worker from file: addresses.
 *
 *     node examples/web/serve.mjs [FOLDER] [PORT]        # target/web, 8015
 */

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".wasm": "application/wasm",
};

/** With the last two a page's clock is fine enough to time a call. */
const HEADERS = {
  "cache-control": "no-store",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};

/**
 * Serves folders on this machine alone.
 *
 * @param {Record<string, string>} folders by the prefix of their addresses: {"/": "target/web"}
 * @param {number} [port] 0 for any that is free
 * @returns {Promise<{address: string, close: () => void}>}
 */
export async function serve(folders, port = 0) {
  const prefixes = Object.keys(folders).sort((a, b) => b.length - a.length);
  const server = createServer(async (request, response) => {
    try {
      const path = normalize(decodeURIComponent(new URL(request.url, "http://host").pathname));
      const prefix = prefixes.find((p) => path.startsWith(p));
      let file = join(folders[prefix], path.slice(prefix.length));
      if ((await stat(file)).isDirectory()) file = join(file, "index.html");
      const { size } = await stat(file);
      const type = TYPES[extname(file)] ?? "application/octet-stream";
      response.writeHead(200, { ...HEADERS, "content-type": type, "content-length": size });
      createReadStream(file).pipe(response);
    } catch {
      response.writeHead(404).end("not found");
    }
  });
  await new Promise((resolve, reject) => server.on("error", reject).listen(port, "127.0.0.1", resolve));
  return { address: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = process.argv[2] ?? fileURLToPath(new URL("../../target/web", import.meta.url));
  const { address } = await serve({ "/": folder }, Number(process.argv[3] ?? 8015));
  console.log(`${folder} at ${address}`);
}
