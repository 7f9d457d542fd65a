import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { call } from "../../api/client.ts";
import { TextField } from "../../design/Field.tsx";
import { Panel } from "../../design/Panel.tsx";
import { useLanguage } from "../../language/language.tsx";
import { useSession } from "../../session/session.ts";
import styles from "../Room.module.css";
import { RoomForm } from "../RoomForm.tsx";

function changePassword(passwords: { old: string; new: string }): Promise<void> {
  return call("PUT", "/v1/members/me/password", { body: passwords });
}

/** Who one is here, and one's password. */
export function AccountPage() {
  const { t, formats } = useLanguage();
  const session = useSession();
  if (session?.kind !== "member") return null;
  const { member } = session;
  return (
    <div className={styles.room}>
      <Panel title={t.settings.rooms.account}>
        <dl className={styles.facts}>
          <dt>{t.signin.name}</dt>
          <dd>
            <bdi>{member.name}</bdi>
          </dd>
          <dt>{t.signin.email}</dt>
          <dd>
            <bdi>{member.email}</bdi>
          </dd>
          <dt>{t.settings.members.role}</dt>
          <dd>
            {t.settings.members.roles[member.role]} · {t.settings.members.roleHints[member.role]}
          </dd>
          <dt>{t.settings.account.since}</dt>
          <dd>{formats.day(new Date(member.created_at))}</dd>
        </dl>
      </Panel>
      <Panel title={t.settings.account.password}>
        <PasswordForm />
      </Panel>
    </div>
  );
}

function PasswordForm() {
  const { t } = useLanguage();
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const change = useMutation({
    mutationFn: changePassword,
    onSuccess: () => {
      setOld("");
      setFresh("");
    },
  });
  return (
    <RoomForm
      submit={t.settings.account.change}
      tried={change}
      said={change.isSuccess && <span role="status">{t.settings.account.changed}</span>}
      onSubmit={() => change.mutate({ old, new: fresh })}
    >
      <TextField
        label={t.settings.account.oldPassword}
        type="password"
        autoComplete="current-password"
        required
        value={old}
        onChange={setOld}
      />
      <TextField
        label={t.settings.account.newPassword}
        type="password"
        autoComplete="new-password"
        required
        value={fresh}
        onChange={setFresh}
      />
    </RoomForm>
  );
}
