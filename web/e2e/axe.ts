import type { Page } from "@playwright/test";
import axe from "axe-core";

interface Violation {
  id: string;
  impact: string;
  nodes: string[];
}

/** Every finding of axe on the page as it is, of whatever weight. */
export async function violations(page: Page): Promise<Violation[]> {
  // Evaluated and not added as a script: the page's policy would refuse that.
  await page.evaluate(axe.source);
  return page.evaluate(async () => {
    type Axe = {
      run: (
        context: Document,
        options: object,
      ) => Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }>;
    };
    const { run } = (window as unknown as { axe: Axe }).axe;
    const { violations } = await run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    });
    return violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map((node) => node.html) }));
  });
}
