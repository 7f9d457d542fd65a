import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import { type Bucket, buckets, type Found, type Hit } from "../../api/search.ts";
import { Chart } from "../../charts/Chart.tsx";
import { Button } from "../../design/Button.tsx";
import { Empty, Failure, Loading } from "../../design/Notice.tsx";
import { PageHead } from "../../design/PageHead.tsx";
import { brief } from "../../format/json.ts";
import { useLanguage } from "../../language/language.tsx";
import { RangePicker } from "../../range/RangePicker.tsx";
import { rangeAddress, spanOf, type TimeRange } from "../../range/range.ts";
import { type ExploreSearch, exploreRange } from "../address.ts";
import { ExploreTabs } from "../ExploreTabs.tsx";
import { FilterBar } from "../FilterBar.tsx";
import { type Filter, withFilter } from "../filters.ts";
import { askEvents, histogramOf, histogramStep, PAGE } from "./ask.ts";
import { EventDialog } from "./EventDialog.tsx";
import styles from "./EventsPage.module.css";

export function EventsPage() {
  const { t, formats } = useLanguage();
  const address = useSearch({ from: "/console/explore" });
  const navigate = useNavigate({ from: "/explore" });
  const filters = address.filters ?? [];
  const range = exploreRange(address);

  const go = (change: { text?: string; filters?: Filter[]; range?: TimeRange }) => {
    const text = change.text ?? address.q ?? "";
    const kept = change.filters ?? filters;
    const next: ExploreSearch = {
      ...(text === "" ? {} : { q: text }),
      ...(kept.length > 0 ? { filters: kept } : {}),
      ...rangeAddress(change.range ?? range),
    };
    void navigate({ search: next });
  };
  const open = (event: string | undefined) => {
    void navigate({ search: ({ event: _, ...rest }) => (event === undefined ? rest : { ...rest, event }) });
  };

  const found = useInfiniteQuery({
    queryKey: ["explore", address.q, filters, range],
    queryFn: async ({ pageParam, signal }) => {
      const span = pageParam?.span ?? spanOf(range, Date.now());
      return { span, found: await askEvents({ text: address.q, filters, span }, pageParam?.after ?? null, signal) };
    },
    initialPageParam: null as { span: ReturnType<typeof spanOf>; after: unknown[] } | null,
    getNextPageParam: (last) => {
      const end = last.found.hits.hits.at(-1);
      return last.found.hits.hits.length < PAGE || end?.sort === undefined
        ? null
        : { span: last.span, after: end.sort };
    },
    placeholderData: keepPreviousData,
  });
  const first = found.data?.pages[0];
  const hits = found.data?.pages.flatMap((page) => page.found.hits.hits) ?? [];
  const chart = useMemo(
    () => (first === undefined ? null : histogramOf(first.found, first.span, t.explore.others)),
    [first, t],
  );

  const narrow = (at: number) => {
    if (first === undefined) return;
    const { ms } = histogramStep(first.span);
    go({ range: { from: new Date(at).toISOString(), to: new Date(at + ms).toISOString() } });
  };
  const add = (filter: Filter) => go({ filters: withFilter(filters, filter) });

  return (
    <>
      <PageHead title={t.pages.explore} beside={<ExploreTabs carry={carry(address)} />}>
        <RangePicker range={range} onChange={(next) => go({ range: next })} />
      </PageHead>
      <FilterBar
        text={address.q ?? ""}
        filters={filters}
        onChange={(text, next) => {
          go({ text, filters: next });
          void found.refetch();
        }}
      />
      {found.error !== null && <Failure error={found.error} onRetry={() => found.refetch()} />}
      {found.isPending && <Loading />}
      {first && chart && (
        <>
          <Chart label={t.explore.histogram} data={chart} value={formats.count} height={150} onPick={narrow} />
          <div className={styles.columns} aria-busy={found.isFetching}>
            <aside className={styles.facets}>
              <Facet title={t.explore.types} field="type" found={first.found} name="types" onPick={add} />
              <Facet title={t.explore.sources} field="source" found={first.found} name="sources" onPick={add} />
            </aside>
            <section aria-label={t.explore.results} className={styles.results}>
              <p className={styles.total} role="status">
                {t.explore.total(
                  first.found.hits.total.value,
                  formats.count(first.found.hits.total.value),
                  formats.count(first.found.took),
                )}
              </p>
              {hits.length === 0 ? <Empty>{t.explore.nothing}</Empty> : <Hits hits={hits} onOpen={open} />}
              {found.hasNextPage && (
                <Button className={styles.more} busy={found.isFetchingNextPage} onClick={() => found.fetchNextPage()}>
                  {t.explore.more}
                </Button>
              )}
            </section>
          </div>
        </>
      )}
      {address.event !== undefined && (
        <EventDialog
          id={address.event}
          known={hits.find((hit) => hit._id === address.event)}
          onFilter={(filter) => add(filter)}
          onClose={() => open(undefined)}
        />
      )}
    </>
  );
}

function carry({ q, filters }: ExploreSearch): ExploreSearch {
  return { ...(q === undefined ? {} : { q }), ...(filters === undefined ? {} : { filters }) };
}

interface FacetProps {
  title: string;
  field: string;
  found: Found;
  name: string;
  onPick: (filter: Filter) => void;
}

/** The values of a field with their counts; one click narrows to one of them. */
function Facet({ title, field, found, name, onPick }: FacetProps) {
  const { formats } = useLanguage();
  const values: Bucket[] = buckets(found.aggregations, name);
  if (values.length === 0) return null;
  return (
    <div className={styles.facet}>
      <h2>{title}</h2>
      <ul>
        {values.map((bucket) => (
          <li key={bucket.key}>
            <button type="button" onClick={() => onPick({ field, is: "=", value: String(bucket.key) })}>
              <span>{String(bucket.key)}</span>
              <span className="number">{formats.short(bucket.doc_count)}</span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Hits({ hits, onOpen }: { hits: readonly Hit[]; onOpen: (id: string) => void }) {
  const { formats } = useLanguage();
  return (
    <ul className={styles.hits}>
      {hits.map(({ _id, _source }) => (
        <li key={_id}>
          <button type="button" className={styles.hit} onClick={() => onOpen(_id)}>
            <time dateTime={_source.time} className="number">
              {formats.exact(new Date(_source.time))}
            </time>
            <strong>{_source.type}</strong>
            <span className={styles.source}>
              {_source.source}
              {_source.subject !== undefined && ` · ${_source.subject}`}
            </span>
            <code className={styles.data}>{brief(_source.data)}</code>
          </button>
        </li>
      ))}
    </ul>
  );
}
