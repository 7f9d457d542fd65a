import { QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { ApiError } from "../api/client.ts";
import { LanguageProvider } from "../language/language.tsx";
import { sessionQuery } from "../session/session.ts";
import { makeRouter } from "./routes.tsx";

const client = new QueryClient({
  queryCache: new QueryCache({
    onError: (error, query) => {
      // A session that ended somewhere else: ask again who this is, and the frame leads to the sign-in.
      if (error instanceof ApiError && error.status === 401 && query.queryKey[0] !== "session") {
        void client.invalidateQueries({ queryKey: sessionQuery.queryKey });
      }
    },
  }),
  defaultOptions: {
    queries: {
      retry: (failures, error) => failures < 1 && error instanceof ApiError && error.isPassing,
      refetchOnWindowFocus: false,
      networkMode: "always",
    },
    mutations: { networkMode: "always" },
  },
});

const router = makeRouter(client);

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

export function App() {
  return (
    <QueryClientProvider client={client}>
      <LanguageProvider>
        <RouterProvider router={router} />
      </LanguageProvider>
    </QueryClientProvider>
  );
}
