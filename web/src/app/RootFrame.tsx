import { Outlet, useRouterState } from "@tanstack/react-router";
import { useEffect } from "react";
import { useLanguage } from "../language/language.tsx";
import { titleOf } from "./title.ts";

/** Names the page in the window's title, where people and screen readers look for it after a change of page. */
export function RootFrame() {
  const { t } = useLanguage();
  const path = useRouterState({ select: (state) => state.location.pathname });
  useEffect(() => {
    document.title = titleOf(path, t);
  }, [path, t]);
  return <Outlet />;
}
