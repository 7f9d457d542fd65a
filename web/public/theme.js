// Before the first paint, so that the page does not flash in the other theme. `src/theme/theme.ts` writes what is read here.
try {
  const theme = localStorage.getItem("sluice.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is switched off: the system's theme it is.
}
