import { Link } from "@tanstack/react-router";
import { DataTable } from "../design/DataTable.tsx";
import { Moment } from "../design/Moment.tsx";
import { Badge, Empty } from "../design/Notice.tsx";
import type { Messages } from "../language/en.ts";
import { useLanguage } from "../language/language.tsx";
import styles from "./Incidents.module.css";
import { durationMs, type Incident, openOf, wordsOf } from "./incidents.ts";

/** What is wrong now, across the page; nothing where all is well. */
export function OpenIncidents({ incidents }: { incidents: readonly Incident[] }) {
  const { t, formats } = useLanguage();
  const open = openOf(incidents);
  if (open.length === 0) return null;
  return (
    <section className={styles.open} role="alert" aria-label={t.monitor.incidents}>
      <h2>{t.monitor.openIncidents(open.length)}</h2>
      <ul>
        {open.map((incident) => (
          <li key={incident.id}>
            <strong>{kindOf(incident, t)}</strong>
            <span>
              <What incident={incident} />
            </span>
            <span className={styles.end}>
              <time dateTime={incident.fired_at}>{t.monitor.since(formats.moment(new Date(incident.fired_at)))}</time>
              {incident.kind === "dead_letters" && (
                <Link to="/settings/dead-letters">{t.settings.rooms.deadLetters}</Link>
              )}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** The last alarms. */
export function Incidents({ incidents }: { incidents: readonly Incident[] }) {
  const { t, formats } = useLanguage();
  if (incidents.length === 0) return <Empty>{t.monitor.noIncidents}</Empty>;
  return (
    <div className={styles.past}>
      <DataTable
        label={t.monitor.incidents}
        rows={incidents}
        keyOf={(incident) => incident.id}
        columns={[
          {
            head: t.monitor.state,
            cell: ({ state }) => (
              <Badge tone={state === "firing" ? "bad" : "good"}>
                {state === "firing" ? t.monitor.firing : t.monitor.resolved}
              </Badge>
            ),
          },
          { head: t.monitor.kind, cell: (incident) => kindOf(incident, t) },
          {
            head: t.monitor.incidentMessage,
            cell: (incident) => <What incident={incident} />,
          },
          {
            head: t.monitor.fired,
            look: "right",
            cell: ({ fired_at }) => <Moment at={fired_at} />,
          },
          {
            head: t.monitor.lasted,
            look: "right",
            cell: (incident) => formats.duration(durationMs(incident, Date.now())),
          },
        ]}
      />
    </div>
  );
}

/** In the reader's language where there are words for it, else as the server says it. */
function What({ incident }: { incident: Incident }) {
  const { t, formats } = useLanguage();
  const { message, value, threshold } = incident;
  const words = wordsOf(incident, t, formats);
  if (words !== null) return <bdi>{words}</bdi>;
  return (
    <>
      <bdi>{message}</bdi>{" "}
      {value !== null && threshold !== null && (
        <span className={styles.faint}>({t.monitor.limit(formats.decimal(value), formats.decimal(threshold))})</span>
      )}
    </>
  );
}

/** The kind in words; a kind of a newer server by its own name. */
function kindOf({ kind }: Incident, t: Messages): string {
  return t.monitor.incidentKinds[kind] ?? kind;
}
