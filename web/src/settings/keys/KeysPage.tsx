import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { Button } from "../../design/Button.tsx";
import { CopyButton } from "../../design/CopyButton.tsx";
import { Confirm } from "../../design/Dialog.tsx";
import { SelectField, TextField } from "../../design/Field.tsx";
import { Badge, Failure, Loading, Notice } from "../../design/Notice.tsx";
import { Panel } from "../../design/Panel.tsx";
import { ScrollBox } from "../../design/ScrollBox.tsx";
import table from "../../design/Table.module.css";
import { useLanguage } from "../../language/language.tsx";
import styles from "../Room.module.css";
import { createKey, type KeyRecord, listKeys, namesIn, revokeKey, type Scope } from "./keys.ts";

const SCOPES: readonly Scope[] = ["write", "read", "admin"];

export function KeysPage() {
  const { t, formats } = useLanguage();
  const client = useQueryClient();
  // Counts the keys that were made, so that each begins with an empty form.
  const [made, setMade] = useState(0);
  const [revoking, setRevoking] = useState<KeyRecord | null>(null);
  const { data, error, isPending, refetch } = useQuery({
    queryKey: ["keys"],
    queryFn: ({ signal }) => listKeys(signal),
  });
  return (
    <div className={styles.room}>
      <Panel title={t.settings.keys.create} note={t.settings.keys.note}>
        <NewKeyForm key={made} onDone={() => setMade(made + 1)} />
      </Panel>
      <Panel title={t.settings.keys.list}>
        {isPending && <Loading />}
        {error !== null && <Failure error={error} onRetry={() => refetch()} />}
        {data && (
          <ScrollBox label={t.settings.keys.list}>
            <table className={table.table}>
              <thead>
                <tr>
                  <th>{t.settings.keys.name}</th>
                  <th>{t.settings.keys.id}</th>
                  <th>{t.settings.keys.scope}</th>
                  <th>{t.settings.keys.sources}</th>
                  <th>{t.settings.keys.created}</th>
                  <th>{t.settings.keys.state}</th>
                  <th>
                    <span className="visually-hidden">{t.states.actions}</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {data.map((key) => (
                  <tr key={key.id}>
                    <td className={styles.cut}>
                      <bdi>{key.name || "–"}</bdi>
                    </td>
                    <td>
                      <code>{key.id}</code>
                    </td>
                    <td>{t.settings.keys.scopes[key.scope]}</td>
                    <td className={styles.cut}>
                      {key.scope === "write" ? key.sources.join(", ") || t.settings.keys.any : ""}
                    </td>
                    <td>{formats.moment(new Date(key.created))}</td>
                    <td>
                      {key.revoked_at === undefined ? (
                        <Badge tone="good">{t.settings.keys.active}</Badge>
                      ) : (
                        <Badge>{t.settings.keys.revoked}</Badge>
                      )}
                    </td>
                    <td className={table.right}>
                      {key.revoked_at === undefined && (
                        <Button onClick={() => setRevoking(key)}>{t.settings.keys.revoke}</Button>
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </ScrollBox>
        )}
      </Panel>
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
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const bounds =
      scope === "write"
        ? { sources: namesIn(sources), types: namesIn(types), origins: namesIn(origins) }
        : { sources: [], types: [], origins: [] };
    make.mutate({ scope, name: name.trim(), ...bounds });
  };
  if (make.data) {
    return (
      <div className={styles.list} role="status">
        <Notice tone="good">{t.settings.keys.shownOnce}</Notice>
        <code className={styles.secret}>{make.data.key}</code>
        <div className={styles.actions}>
          <CopyButton text={make.data.key} />
          <Button onClick={onDone}>{t.settings.keys.kept}</Button>
        </div>
      </div>
    );
  }
  return (
    <form className={styles.form} onSubmit={submit}>
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
      {make.error !== null && (
        <div className={styles.wide}>
          <Failure error={make.error} />
        </div>
      )}
      <div className={`${styles.wide} ${styles.actions}`}>
        <Button type="submit" kind="primary" busy={make.isPending}>
          {t.settings.keys.make}
        </Button>
      </div>
    </form>
  );
}
