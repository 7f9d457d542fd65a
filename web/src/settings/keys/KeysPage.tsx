import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button } from "../../design/Button.tsx";
import { Confirm } from "../../design/Dialog.tsx";
import { SelectField, TextField } from "../../design/Field.tsx";
import { Moment } from "../../design/Moment.tsx";
import { Badge } from "../../design/Notice.tsx";
import { Panel } from "../../design/Panel.tsx";
import { useLanguage } from "../../language/language.tsx";
import type { Scope } from "../../session/session.ts";
import { ListPanel } from "../ListPanel.tsx";
import styles from "../Room.module.css";
import { RoomForm, ShownOnce } from "../RoomForm.tsx";
import { createKey, type KeyRecord, listKeys, namesIn, revokeKey } from "./keys.ts";

const SCOPES: readonly Scope[] = ["write", "read", "admin"];

export function KeysPage() {
  const { t } = useLanguage();
  const client = useQueryClient();
  // Counts the keys that were made, so that each begins with an empty form.
  const [made, setMade] = useState(0);
  const [revoking, setRevoking] = useState<KeyRecord | null>(null);
  const found = useQuery({ queryKey: ["keys"], queryFn: ({ signal }) => listKeys(signal) });
  return (
    <div className={styles.room}>
      <Panel title={t.settings.keys.create} note={t.settings.keys.note}>
        <NewKeyForm key={made} onDone={() => setMade(made + 1)} />
      </Panel>
      <ListPanel
        title={t.settings.keys.list}
        found={found}
        rows={found.data}
        empty={t.settings.keys.empty}
        keyOf={(key) => key.id}
        columns={[
          { head: t.settings.keys.name, look: "cut", cell: (key) => <bdi>{key.name || "–"}</bdi> },
          { head: t.settings.keys.id, cell: (key) => <code>{key.id}</code> },
          { head: t.settings.keys.scope, cell: (key) => t.settings.keys.scopes[key.scope] },
          {
            head: t.settings.keys.sources,
            look: "cut",
            cell: (key) => key.scope === "write" && (key.sources.join(", ") || t.settings.keys.any),
          },
          { head: t.settings.keys.created, cell: (key) => <Moment at={key.created} /> },
          {
            head: t.settings.keys.state,
            cell: (key) =>
              key.revoked_at === undefined ? (
                <Badge tone="good">{t.settings.keys.active}</Badge>
              ) : (
                <Badge>{t.settings.keys.revoked}</Badge>
              ),
          },
        ]}
        actions={(key) =>
          key.revoked_at === undefined && <Button onClick={() => setRevoking(key)}>{t.settings.keys.revoke}</Button>
        }
      />
      {revoking && (
        <Confirm
          title={t.settings.keys.revokeTitle}
          act={t.settings.keys.revoke}
          onAct={async () => {
            await revokeKey(revoking.id);
            await client.invalidateQueries({ queryKey: ["keys"] });
          }}
          onClose={() => setRevoking(null)}
        >
          <p>
            <bdi>{revoking.name}</bdi> <code>{revoking.id}</code>
          </p>
          <p>{t.settings.keys.revokeNote}</p>
        </Confirm>
      )}
    </div>
  );
}

function NewKeyForm({ onDone }: { onDone: () => void }) {
  const { t } = useLanguage();
  const client = useQueryClient();
  const [scope, setScope] = useState<Scope>("write");
  const [name, setName] = useState("");
  const [sources, setSources] = useState("");
  const [types, setTypes] = useState("");
  const [origins, setOrigins] = useState("");
  const make = useMutation({
    mutationFn: createKey,
    onSuccess: () => client.invalidateQueries({ queryKey: ["keys"] }),
  });
  const submit = () => {
    const bounds =
      scope === "write"
        ? { sources: namesIn(sources), types: namesIn(types), origins: namesIn(origins) }
        : { sources: [], types: [], origins: [] };
    make.mutate({ scope, name: name.trim(), ...bounds });
  };
  if (make.data) return <ShownOnce note={t.settings.keys.shownOnce} secret={make.data.key} onKept={onDone} />;
  return (
    <RoomForm submit={t.settings.keys.make} tried={make} onSubmit={submit}>
      <SelectField
        label={t.settings.keys.scope}
        value={scope}
        options={SCOPES.map((value) => ({ value, label: t.settings.keys.scopes[value] }))}
        hint={t.settings.keys.scopeHints[scope]}
        onChange={setScope}
      />
      <TextField label={t.settings.keys.name} value={name} maxLength={100} required onChange={setName} />
      {scope === "write" && (
        <>
          <TextField
            label={t.settings.keys.sources}
            hint={t.settings.keys.sourcesHint}
            value={sources}
            required
            onChange={setSources}
          />
          <TextField label={t.settings.keys.types} hint={t.settings.keys.typesHint} value={types} onChange={setTypes} />
          <TextField
            label={t.settings.keys.origins}
            hint={t.settings.keys.originsHint}
            value={origins}
            onChange={setOrigins}
          />
        </>
      )}
    </RoomForm>
  );
}
