import type { Page } from "@playwright/test";
import { expect, test } from "./stage.ts";

// One after the other: the second signs in as the admin that the first has made.
test.describe.configure({ mode: "serial" });

// Who is not signed in is told so by a 401, which the browser notes.
test.use({ allow: /status of 401.*\/v1\// });

const PASSWORD = "correct horse battery";

async function join(page: Page, link: string, who: { name: string; email: string }): Promise<void> {
  await page.goto(link);
  await expect(page.getByRole("heading", { name: "Welcome" })).toBeVisible();
  expect(page.url(), "the link's token stays out of the address").not.toContain("link=");
  await page.getByLabel("Name").fill(who.name);
  await page.getByLabel("E-mail").fill(who.email);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Create account and sign in" }).click();
  await expect(page.getByRole("heading", { name: "Monitor" })).toBeVisible();
}

test("members join by links, have roles, and are out at once when they are removed", async ({
  page,
  browser,
  sluice,
}) => {
  test.skip(sluice.firstLink === null, "this server has no members");
  await join(page, sluice.firstLink ?? "", { name: "First Admin", email: "admin@example.org" });
  const [cookie] = await page.context().cookies();
  expect(cookie).toMatchObject({ name: "sluice_session", httpOnly: true, sameSite: "Lax" });

  await page.goto("/settings/members");
  await page.getByLabel("Name").fill("New Viewer");
  await page.getByLabel("E-mail").fill("viewer@example.org");
  await page.getByRole("button", { name: "Make invitation" }).click();
  const link = await page.locator("main code", { hasText: "#link=" }).textContent();
  await page.getByRole("button", { name: "Done" }).click();

  const theirs = await browser.newContext({ baseURL: sluice.url, locale: "en-US" });
  const viewer = await theirs.newPage();
  await join(viewer, link ?? "", { name: "New Viewer", email: "viewer@example.org" });
  await viewer.getByRole("link", { name: "Settings" }).click();
  const rooms = viewer.getByRole("navigation", { name: "Settings" });
  await expect(rooms.getByRole("link")).toHaveText(["Retention", "Account"]);
  await viewer.screenshot({ path: "e2e/artifacts/account.png" });

  await page.reload();
  await page.getByLabel("Role: New Viewer").selectOption("editor");
  await expect(page.getByLabel("Role: New Viewer")).toHaveValue("editor");
  await page.screenshot({ path: "e2e/artifacts/members.png" });
  await viewer.reload();
  await expect(rooms.getByRole("link")).toHaveText(["Channels", "Quarantine", "Dead letters", "Retention", "Account"]);

  await viewer.getByRole("link", { name: "Monitor" }).click();
  await expect(viewer.getByText(/^Live · /)).toBeVisible();
  const row = page.getByRole("row", { name: /viewer@example.org/ });
  await row.getByRole("button", { name: "Remove" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await expect(row).toBeHidden();
  await expect(viewer).toHaveURL(/\/signin\?next=/);
  await theirs.close();
});

test("a password is changed, and signs in from then on", async ({ page, sluice }) => {
  test.skip(sluice.firstLink === null, "this server has no members");
  await page.goto("/signin");
  await page.getByLabel("E-mail").fill("admin@example.org");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("heading", { name: "Monitor" })).toBeVisible();
  await page.goto("/settings/account");
  await page.getByLabel("Password now").fill(PASSWORD);
  await page.getByLabel("New password").fill(`${PASSWORD} 2`);
  await page.getByRole("button", { name: "Change password" }).click();
  await expect(page.getByText("Changed.")).toBeVisible();

  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
  await page.getByLabel("E-mail").fill("admin@example.org");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toHaveText("E-mail or password is wrong.");
  await page.getByLabel("Password").fill(`${PASSWORD} 2`);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("heading", { name: "Settings" })).toBeVisible();
});
