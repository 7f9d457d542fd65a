/** Has the browser keep the game's page for times without a network, once the page is there. Pages on plain http have no workers. */
export function keepForOffline(): void {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  const register = () => {
    navigator.serviceWorker
      .register("/sw.js", { updateViaCache: "none" })
      // A new build has a new worker. Left to itself a browser may take its time to look for one.
      .then((registration) => registration.update())
      // A browser that refuses plays with a network as before.
      .catch(() => undefined);
  };
  if (document.readyState === "complete") register();
  else window.addEventListener("load", register, { once: true });
}
