import { type FormEvent, useEffect, useState } from "react";
import {
  Button as AriaButton,
  ComboBox,
  Input,
  Label,
  ListBox,
  ListBoxItem,
  Popover,
  Tag,
  TagGroup,
  TagList,
} from "react-aria-components";
import { Button } from "../design/Button.tsx";
import fieldStyles from "../design/Field.module.css";
import { SelectField, TextField } from "../design/Field.tsx";
import { useLanguage } from "../language/language.tsx";
import { FIELDS, WORDED } from "../schema/events.ts";
import styles from "./FilterBar.module.css";
import { COMPARISONS, type Comparison, exactField, type Filter, takesValue, withFilter } from "./filters.ts";

interface Props {
  text: string;
  filters: readonly Filter[];
  onChange: (text: string, filters: Filter[]) => void;
}

const ENVELOPE = [
  "type",
  "source",
  "subject",
  "userid",
  "sessionid",
  "id",
  "clientip",
  "useragent",
  "time",
  "receivedtime",
];
const KNOWN: readonly string[] = [
  ...ENVELOPE,
  ...[...new Set(Object.values(FIELDS).flat())].sort().map((field) => `data.${field}`),
];

/** Words to look for, and conditions as chips. */
export function FilterBar({ text, filters, onChange }: Props) {
  const { t } = useLanguage();
  const [typed, setTyped] = useState(text);
  const [adding, setAdding] = useState(false);
  // The address changed by another way: Back, a link, a facet.
  useEffect(() => setTyped(text), [text]);

  return (
    <div className={styles.bar}>
      {/* biome-ignore lint/a11y/useSemanticElements: <search> is not known to all assistive technology yet */}
      <form
        role="search"
        className={styles.search}
        onSubmit={(event) => {
          event.preventDefault();
          onChange(typed.trim(), [...filters]);
        }}
      >
        <TextField
          label={t.explore.query}
          labelHidden
          type="search"
          placeholder={t.explore.queryExample}
          spellCheck={false}
          autoCapitalize="none"
          value={typed}
          onChange={setTyped}
        />
        <Button type="submit" kind="primary">
          {t.explore.find}
        </Button>
        <Button aria-expanded={adding} onClick={() => setAdding(!adding)}>
          {t.explore.addFilter}
        </Button>
      </form>
      {adding && (
        <NewFilter
          onAdd={(filter) => {
            onChange(typed.trim(), withFilter(filters, filter));
            setAdding(false);
          }}
        />
      )}
      {filters.length > 0 && (
        <TagGroup
          aria-label={t.explore.filters}
          onRemove={(removed) =>
            onChange(
              text,
              filters.filter((filter) => !removed.has(filterName(filter))),
            )
          }
        >
          <TagList className={styles.chips ?? ""}>
            {filters.map((filter) => (
              <Tag
                key={filterName(filter)}
                id={filterName(filter)}
                className={styles.chip ?? ""}
                textValue={chipText(filter, t.explore.comparisons)}
              >
                <span className={styles.chipText}>{chipText(filter, t.explore.comparisons)}</span>
                <AriaButton slot="remove" className={styles.remove ?? ""}>
                  ✕
                </AriaButton>
              </Tag>
            ))}
          </TagList>
        </TagGroup>
      )}
    </div>
  );
}

/** No chip is there twice. */
function filterName(filter: Filter): string {
  return JSON.stringify([filter.field, filter.is, filter.value]);
}

function chipText(filter: Filter, words: Record<Comparison, string>): string {
  return [filter.field, words[filter.is], filter.value].filter((part) => part !== "").join(" ");
}

function NewFilter({ onAdd }: { onAdd: (filter: Filter) => void }) {
  const { t } = useLanguage();
  const [field, setField] = useState("type");
  const [is, setIs] = useState<Comparison>("=");
  const [value, setValue] = useState("");
  const isReady = field.trim() !== "" && (!takesValue(is) || value !== "");
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    if (!isReady) return;
    const name = is === "=" || is === "!=" ? exactField(field.trim(), WORDED) : field.trim();
    onAdd({ field: name, is, value: takesValue(is) ? value : "" });
  };
  return (
    <form className={styles.fresh} onSubmit={onSubmit}>
      <ComboBox
        className={fieldStyles.field ?? ""}
        inputValue={field}
        onInputChange={setField}
        onSelectionChange={(key) => key !== null && setField(String(key))}
        allowsCustomValue
        menuTrigger="focus"
      >
        <Label className={fieldStyles.label ?? ""}>{t.explore.field}</Label>
        <Input className={fieldStyles.input ?? ""} spellCheck={false} autoCapitalize="none" />
        <Popover className={styles.popover ?? ""}>
          <ListBox items={KNOWN.map((name) => ({ id: name }))} className={styles.list ?? ""}>
            {(item) => (
              <ListBoxItem id={item.id} textValue={item.id} className={styles.option ?? ""}>
                {item.id}
              </ListBoxItem>
            )}
          </ListBox>
        </Popover>
      </ComboBox>
      <SelectField
        label={t.explore.comparison}
        value={is}
        options={COMPARISONS.map((name) => ({ value: name, label: t.explore.comparisons[name] }))}
        onChange={setIs}
      />
      {takesValue(is) && <TextField label={t.explore.value} value={value} spellCheck={false} onChange={setValue} />}
      <Button type="submit" disabled={!isReady}>
        {t.explore.add}
      </Button>
    </form>
  );
}
