import { useMutation, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { EVERYWHERE, search } from "../../api/search.ts";
import { CopyButton } from "../../design/CopyButton.tsx";
import { TextField } from "../../design/Field.tsx";
import { Failure, Notice } from "../../design/Notice.tsx";
import { Panel } from "../../design/Panel.tsx";
import { useLanguage } from "../../language/language.tsx";
import { createKey } from "../keys/keys.ts";
import styles from "../Room.module.css";
import { RoomForm } from "../RoomForm.tsx";
import { beaconSnippet, curlSnippet, fetchSnippet, sdkSnippet, TYPE } from "./snippets.ts";

const ASK_MS = 1_000;

/** From nothing to the first event that is seen. */
export function FirstEventPage() {
  const { t } = useLanguage();
  const [source, setSource] = useState("my-app");
  const make = useMutation({
    mutationFn: async (name: string) => {
      const made = await createKey({
        scope: "write",
        name: t.settings.first.keyName,
        sources: [name],
        types: [],
        origins: [],
      });
      // By the server's clock, which stamps events too: what came before the key was made is not its first.
      const since = made.created;
      return { secret: made.key, source: name, since };
    },
  });
  return (
    <div className={styles.room}>
      <Panel title={t.settings.first.step1} note={t.settings.first.note}>
        <RoomForm
          submit={t.settings.first.make}
          tried={make}
          disabled={source.trim() === ""}
          onSubmit={() => make.mutate(source.trim())}
        >
          <TextField
            label={t.settings.first.source}
            value={source}
            required
            maxLength={100}
            spellCheck={false}
            onChange={setSource}
          />
        </RoomForm>
      </Panel>
      {make.data && <Snippets key={make.data.secret} {...make.data} />}
    </div>
  );
}

function Snippets({ secret, source, since }: { secret: string; source: string; since: string }) {
  const { t } = useLanguage();
  const event = { origin: window.location.origin, key: secret, source };
  const arrived = useQuery({
    queryKey: ["first", source, since],
    queryFn: async ({ signal }) => {
      const filter = [{ term: { source } }, { term: { type: TYPE } }, { range: { receivedtime: { gte: since } } }];
      const found = await search(
        EVERYWHERE,
        { size: 1, query: { bool: { filter } }, sort: [{ receivedtime: "desc" }] },
        signal,
      );
      return found.hits.hits[0] ?? null;
    },
    refetchInterval: (query) => (query.state.data ? false : ASK_MS),
  });
  return (
    <>
      <Panel title={t.settings.first.step2} note={t.settings.first.once}>
        <Snippet title={t.settings.first.curl} text={curlSnippet(event)} />
        <Snippet title={t.settings.first.sdk} note={t.settings.first.sdkNote} text={sdkSnippet(event)} />
        <Snippet title={t.settings.first.fetch} text={fetchSnippet(event)} />
        <Snippet title={t.settings.first.beacon} note={t.settings.first.beaconNote} text={beaconSnippet(event)} />
      </Panel>
      <Panel title={t.settings.first.step3}>
        <div role="status">
          {arrived.data ? (
            <Notice tone="good">
              <span>{t.settings.first.arrived}</span>
              <Link
                to="/explore"
                search={{ event: arrived.data._id, filters: [{ field: "source", is: "=", value: source }], last: "1h" }}
              >
                {t.monitor.explore}
              </Link>
            </Notice>
          ) : (
            <Notice>{t.settings.first.waiting}</Notice>
          )}
        </div>
        {arrived.error !== null && <Failure error={arrived.error} onRetry={() => arrived.refetch()} />}
      </Panel>
    </>
  );
}

function Snippet({ title, note, text }: { title: string; note?: string; text: string }) {
  return (
    <section className={styles.snippet} aria-label={title}>
      <div className={styles.actions}>
        <h3>{title}</h3>
        <CopyButton text={text} />
      </div>
      {note && <p className={styles.faint}>{note}</p>}
      <pre className={styles.bytes}>{text}</pre>
    </section>
  );
}
