import { useQuery } from "@tanstack/react-query";
import type { Hit } from "../../api/search.ts";
import { Button } from "../../design/Button.tsx";
import { CopyButton } from "../../design/CopyButton.tsx";
import { Dialog } from "../../design/Dialog.tsx";
import { Empty, Failure, Loading } from "../../design/Notice.tsx";
import { ScrollBox } from "../../design/ScrollBox.tsx";
import { leaves, pretty, webAddress } from "../../format/json.ts";
import { useLanguage } from "../../language/language.tsx";
import { WORDED } from "../../schema/events.ts";
import { exactField, type Filter } from "../filters.ts";
import { askEvent } from "./ask.ts";
import styles from "./EventDialog.module.css";
import { WayPart } from "./WayPart.tsx";

interface Props {
  id: string;
  /** The event, where the list behind has it already. */
  known: Hit | undefined;
  onFilter: (filter: Filter) => void;
  onClose: () => void;
}

/** One event: its way through the pipeline, its fields, its JSON. */
export function EventDialog({ id, known, onFilter, onClose }: Props) {
  const { t } = useLanguage();
  const { data, error, isPending, refetch } = useQuery({
    queryKey: ["event", id],
    queryFn: ({ signal }) => askEvent(id, signal),
    ...(known ? { initialData: known } : {}),
    staleTime: 60_000,
  });
  return (
    <Dialog title={data?._source.type ?? t.explore.event} place="side" onClose={onClose}>
      {isPending && <Loading />}
      {error !== null && <Failure error={error} onRetry={() => refetch()} />}
      {data === null && <Empty>{t.explore.noEvent}</Empty>}
      {data && (
        <>
          <WayPart hit={data} />
          <Fields hit={data} onFilter={onFilter} />
          <section className={styles.part}>
            <div className={styles.partHead}>
              <h3>{t.explore.raw}</h3>
              <CopyButton text={pretty(data._source)} />
            </div>
            <ScrollBox label={t.explore.raw}>
              <pre className={styles.raw}>{pretty(data._source)}</pre>
            </ScrollBox>
          </section>
        </>
      )}
    </Dialog>
  );
}

function Fields({ hit, onFilter }: { hit: Hit; onFilter: (filter: Filter) => void }) {
  const { t } = useLanguage();
  return (
    <section className={styles.part}>
      <h3>{t.explore.fields}</h3>
      <table className={styles.fields}>
        <tbody>
          {leaves(hit._source)
            .filter(([, value]) => value !== null)
            .map(([path, value]) => (
              <tr key={path}>
                <th scope="row">{path}</th>
                <td>
                  <Value value={value} />
                </td>
                <td className={styles.narrow}>
                  <FilterButtons path={path} value={value} onFilter={onFilter} />
                </td>
              </tr>
            ))}
        </tbody>
      </table>
    </section>
  );
}

interface FilterButtonsProps {
  path: string;
  value: unknown;
  onFilter: (filter: Filter) => void;
}

function FilterButtons({ path, value, onFilter }: FilterButtonsProps) {
  const { t } = useLanguage();
  if (typeof value === "object") return null;
  const condition = { field: exactField(path, WORDED), value: String(value) };
  const [only, without] = [t.explore.only(path), t.explore.without(path)];
  return (
    <>
      <Button kind="quiet" aria-label={only} title={only} onClick={() => onFilter({ ...condition, is: "=" })}>
        +
      </Button>
      <Button kind="quiet" aria-label={without} title={without} onClick={() => onFilter({ ...condition, is: "!=" })}>
        −
      </Button>
    </>
  );
}

/** A value of an event: always text, and a link only to the web. */
function Value({ value }: { value: unknown }) {
  const address = webAddress(value);
  const text = typeof value === "string" ? value : JSON.stringify(value);
  if (address !== null) {
    return (
      <a href={address} target="_blank" rel="noopener noreferrer nofollow">
        {text}
      </a>
    );
  }
  return <bdi>{text}</bdi>;
}
