// Keeps the files of the game's page, so that it opens without a network. It keeps nothing else, and never an answer of the API: what is
// not in the list goes to the network as if this were not here. The build writes the list and a name of it, which changes with every file.
const NAME = "__NAME__";
const FILES = ["__FILES__"];
/** Files whose names change with their content. */
const HASHED = "/assets/";
/** A network that takes longer to say anything is treated as none. */
const PATIENCE_MS = 4_000;

self.addEventListener("install", (event) => {
  // Servers give a page only to whoever asks for one.
  const requests = FILES.map((file) => new Request(file, { cache: "reload", headers: { accept: "text/html, */*" } }));
  event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(requests)));
  // A new build does not wait for the tabs of the old one: those load no more of these files.
  self.skipWaiting();
});

self.addEventListener("activate", (event) => {
  const drop = (names) => Promise.all(names.filter((name) => name !== NAME).map((name) => caches.delete(name)));
  event.waitUntil(Promise.all([caches.keys().then(drop), self.clients.claim()]));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin || !FILES.includes(url.pathname)) return;
  event.respondWith(
    url.pathname.startsWith(HASHED) ? keptFirst(request, url.pathname) : networkFirst(request, url.pathname),
  );
});

async function keptFirst(request, path) {
  return (await kept(path)) ?? fetch(request);
}

async function networkFirst(request, path) {
  const answer = fetch(request);
  const late = new Promise((_, reject) => setTimeout(reject, PATIENCE_MS));
  try {
    return await Promise.race([answer, late]);
  } catch {
    return (await kept(path)) ?? answer;
  }
}

async function kept(path) {
  return (await caches.open(NAME)).match(path, { ignoreVary: true });
}
