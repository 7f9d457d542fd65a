import { useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type FormEvent, type ReactNode, useState } from "react";
import { ApiError } from "../api/client.ts";
import { Button } from "../design/Button.tsx";
import { TextField } from "../design/Field.tsx";
import { useSentence } from "../design/Notice.tsx";
import type { Messages } from "../language/en.ts";
import { useLanguage } from "../language/language.tsx";
import { sessionQuery, signInWithKey, signInWithLink, signInWithPassword } from "../session/session.ts";
import { tokenOf } from "./address.ts";
import styles from "./SignInPage.module.css";

export function SignInPage() {
  const { t } = useLanguage();
  // Read once: it is taken out of the address before anybody can copy it from there.
  const [token] = useState(() => {
    const found = tokenOf(window.location.hash);
    if (found !== null) history.replaceState(history.state, "", window.location.pathname + window.location.search);
    return found;
  });
  const [byKey, setByKey] = useState(false);
  return (
    <div className={styles.page}>
      <h1>{token !== null && !byKey ? t.signin.welcome : t.signin.title}</h1>
      {byKey ? <KeyForm /> : <PasswordForm token={token} />}
      <Button kind="quiet" onClick={() => setByKey(!byKey)}>
        {byKey ? t.signin.usePassword : t.signin.useKey}
      </Button>
    </div>
  );
}

/** By e-mail and password; with a link's token they are chosen now, and a name with them. */
function PasswordForm({ token }: { token: string | null }) {
  const { t } = useLanguage();
  const [name, setName] = useState("");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const isNew = token !== null;
  return (
    <Form
      submit={isNew ? t.signin.join : t.signin.submit}
      act={() => (isNew ? signInWithLink(token, { name, email, password }) : signInWithPassword(email, password))}
    >
      {isNew && (
        <>
          <p className={styles.note}>{t.signin.linkNote}</p>
          <TextField label={t.signin.name} autoComplete="name" required value={name} onChange={setName} />
        </>
      )}
      <TextField
        label={t.signin.email}
        type="email"
        autoComplete="username"
        required
        value={email}
        onChange={setEmail}
      />
      <TextField
        label={t.signin.password}
        type="password"
        autoComplete={isNew ? "new-password" : "current-password"}
        required
        value={password}
        onChange={setPassword}
      />
    </Form>
  );
}

function KeyForm() {
  const { t } = useLanguage();
  const [key, setKey] = useState("");
  return (
    <Form submit={t.signin.submit} act={() => signInWithKey(key.trim())}>
      <p className={styles.note}>{t.signin.keyNote}</p>
      <TextField label={t.signin.key} type="password" autoComplete="off" required value={key} onChange={setKey} />
    </Form>
  );
}

function Form({ submit, act, children }: { submit: string; act: () => Promise<void>; children: ReactNode }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const { next } = useSearch({ from: "/open/signin" });
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);

  const onSubmit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await act();
      // Nothing that another person's session has read stays.
      client.clear();
      await client.fetchQuery(sessionQuery);
      await navigate({ to: next ?? "/monitor" });
    } catch (refused) {
      setError(refused);
      setBusy(false);
    }
  };

  return (
    <form className={styles.form} onSubmit={onSubmit}>
      {children}
      {error !== null && <Refusal error={error} />}
      <Button type="submit" kind="primary" busy={busy}>
        {submit}
      </Button>
    </form>
  );
}

function Refusal({ error }: { error: unknown }) {
  const { t } = useLanguage();
  const sentence = useSentence(error);
  return (
    <p className={styles.refusal} role="alert">
      {refusalOf(error, t) ?? sentence}
    </p>
  );
}

function refusalOf(error: unknown, t: Messages): string | undefined {
  if (!(error instanceof ApiError)) return undefined;
  if (error.code === "credentials") return t.signin.refusals.credentials;
  if (error.code === "link") return t.signin.refusals.link;
  if (error.status === 404 || error.status === 405) return t.signin.refusals.noMembers;
  if (error.status === 401) return t.signin.refusals.key;
  return undefined;
}
