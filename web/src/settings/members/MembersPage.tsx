import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button } from "../../design/Button.tsx";
import { Confirm } from "../../design/Dialog.tsx";
import { SelectField, TextField } from "../../design/Field.tsx";
import { Moment } from "../../design/Moment.tsx";
import { Failure } from "../../design/Notice.tsx";
import { Panel } from "../../design/Panel.tsx";
import { useLanguage } from "../../language/language.tsx";
import type { Member, Role } from "../../session/session.ts";
import { ListPanel } from "../ListPanel.tsx";
import styles from "../Room.module.css";
import { RoomForm, ShownOnce } from "../RoomForm.tsx";
import { changeRole, inviteMember, listMembers, removeMember } from "./members.ts";

const ROLES: readonly Role[] = ["viewer", "editor", "admin"];

export function MembersPage() {
  const { t } = useLanguage();
  const client = useQueryClient();
  const [removing, setRemoving] = useState<Member | null>(null);
  const refresh = () => client.invalidateQueries({ queryKey: ["members"] });
  const found = useQuery({ queryKey: ["members"], queryFn: ({ signal }) => listMembers(signal) });
  const role = useMutation({
    mutationFn: ({ id, role }: { id: string; role: Role }) => changeRole(id, role),
    onSettled: refresh,
  });
  return (
    <div className={styles.room}>
      {found.data && (
        <Panel title={t.settings.members.invite} note={t.settings.members.inviteNote}>
          <InviteForm onInvited={refresh} />
        </Panel>
      )}
      <ListPanel
        title={t.settings.members.list}
        above={role.error !== null && <Failure error={role.error} />}
        found={found}
        rows={found.data}
        empty={t.settings.members.empty}
        absent={t.settings.members.absent}
        keyOf={(member) => member.id}
        columns={[
          { head: t.signin.name, look: "cut", cell: (member) => <bdi>{member.name}</bdi> },
          { head: t.signin.email, look: "cut", cell: (member) => <bdi>{member.email}</bdi> },
          {
            head: t.settings.members.role,
            cell: (member) => (
              <SelectField
                label={`${t.settings.members.role}: ${member.name}`}
                labelHidden
                value={member.role}
                options={ROLES.map((value) => ({ value, label: t.settings.members.roles[value] }))}
                onChange={(next) => role.mutate({ id: member.id, role: next })}
              />
            ),
          },
          {
            head: t.settings.members.lastSeen,
            cell: (member) => (member.last_seen_at ? <Moment at={member.last_seen_at} /> : "–"),
          },
        ]}
        actions={(member) => <Button onClick={() => setRemoving(member)}>{t.settings.members.remove}</Button>}
      />
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
    return (
      <ShownOnce
        note={t.settings.members.invited(formats.moment(new Date(invite.data.expires_at)))}
        secret={new URL(invite.data.link, window.location.origin).href}
        onKept={() => invite.reset()}
      />
    );
  }
  return (
    <RoomForm
      submit={t.settings.members.send}
      tried={invite}
      onSubmit={() => invite.mutate({ email: email.trim(), name: name.trim(), role })}
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
    </RoomForm>
  );
}
