import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { Button } from "../../design/Button.tsx";
import { CopyButton } from "../../design/CopyButton.tsx";
import { Confirm } from "../../design/Dialog.tsx";
import { SelectField, TextField } from "../../design/Field.tsx";
import { Failure, Loading, Notice } from "../../design/Notice.tsx";
import { Panel } from "../../design/Panel.tsx";
import { ScrollBox } from "../../design/ScrollBox.tsx";
import table from "../../design/Table.module.css";
import { useLanguage } from "../../language/language.tsx";
import type { Member, Role } from "../../session/session.ts";
import styles from "../Room.module.css";
import { RoomFailure } from "../RoomFailure.tsx";
import { changeRole, inviteMember, listMembers, removeMember } from "./members.ts";

const ROLES: readonly Role[] = ["viewer", "editor", "admin"];

export function MembersPage() {
  const { t, formats } = useLanguage();
  const client = useQueryClient();
  const [removing, setRemoving] = useState<Member | null>(null);
  const refresh = () => client.invalidateQueries({ queryKey: ["members"] });
  const { data, error, isPending, refetch } = useQuery({
    queryKey: ["members"],
    queryFn: ({ signal }) => listMembers(signal),
  });
  const role = useMutation({
    mutationFn: ({ id, role }: { id: string; role: Role }) => changeRole(id, role),
    onSettled: refresh,
  });
  return (
    <div className={styles.room}>
      {data && (
        <Panel title={t.settings.members.invite} note={t.settings.members.inviteNote}>
          <InviteForm onInvited={refresh} />
        </Panel>
      )}
      <Panel title={t.settings.members.list}>
        {isPending && <Loading />}
        <RoomFailure error={error} absent={t.settings.members.absent} onRetry={() => refetch()} />
        {role.error !== null && <Failure error={role.error} />}
        {data && (
          <ScrollBox label={t.settings.members.list}>
            <table className={table.table}>
              <thead>
                <tr>
                  <th>{t.signin.name}</th>
                  <th>{t.signin.email}</th>
                  <th>{t.settings.members.role}</th>
                  <th>{t.settings.members.lastSeen}</th>
                  <th>
                    <span className="visually-hidden">{t.states.actions}</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {data.map((member) => (
                  <tr key={member.id}>
                    <td className={styles.cut}>
                      <bdi>{member.name}</bdi>
                    </td>
                    <td className={styles.cut}>
                      <bdi>{member.email}</bdi>
                    </td>
                    <td>
                      <SelectField
                        label={`${t.settings.members.role}: ${member.name}`}
                        labelHidden
                        value={member.role}
                        options={ROLES.map((value) => ({ value, label: t.settings.members.roles[value] }))}
                        onChange={(next) => role.mutate({ id: member.id, role: next })}
                      />
                    </td>
                    <td>{member.last_seen_at ? formats.moment(new Date(member.last_seen_at)) : "–"}</td>
                    <td className={table.right}>
                      <Button onClick={() => setRemoving(member)}>{t.settings.members.remove}</Button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </ScrollBox>
        )}
      </Panel>
      {removing && (
        <Confirm
          title={t.settings.members.removeTitle}
          act={t.settings.members.remove}
          onAct={async () => {
            await removeMember(removing.id);
            await refresh();
          }}
          onClose={() => setRemoving(null)}
        >
          <p>
            <bdi>{removing.name}</bdi> <bdi>{removing.email}</bdi>
          </p>
          <p>{t.settings.members.removeNote}</p>
        </Confirm>
      )}
    </div>
  );
}

function InviteForm({ onInvited }: { onInvited: () => Promise<void> }) {
  const { t, formats } = useLanguage();
  const [email, setEmail] = useState("");
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const invite = useMutation({ mutationFn: inviteMember, onSuccess: onInvited });
  if (invite.data) {
    const address = new URL(invite.data.link, window.location.origin).href;
    return (
      <div className={styles.list} role="status">
        <Notice tone="good">{t.settings.members.invited(formats.moment(new Date(invite.data.expires_at)))}</Notice>
        <code className={styles.secret}>{address}</code>
        <div className={styles.actions}>
          <CopyButton text={address} />
          <Button onClick={() => invite.reset()}>{t.settings.keys.kept}</Button>
        </div>
      </div>
    );
  }
  return (
    <form
      className={styles.form}
      onSubmit={(event: FormEvent) => {
        event.preventDefault();
        invite.mutate({ email: email.trim(), name: name.trim(), role });
      }}
    >
      <TextField label={t.signin.name} value={name} required maxLength={100} onChange={setName} />
      <TextField label={t.signin.email} type="email" value={email} required onChange={setEmail} />
      <SelectField
        label={t.settings.members.role}
        value={role}
        options={ROLES.map((value) => ({ value, label: t.settings.members.roles[value] }))}
        hint={t.settings.members.roleHints[role]}
        onChange={setRole}
      />
      {invite.error !== null && (
        <div className={styles.wide}>
          <Failure error={invite.error} />
        </div>
      )}
      <div className={`${styles.wide} ${styles.actions}`}>
        <Button type="submit" kind="primary" busy={invite.isPending}>
          {t.settings.members.send}
        </Button>
      </div>
    </form>
  );
}
