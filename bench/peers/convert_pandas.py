"""pandas and pyarrow: a file of events to typed, partitioned zstd-1 Parquet on one thread. Prints processor seconds and bytes written."""
import json, pathlib, sys, time
import pandas as pd, pyarrow as pa, pyarrow.parquet as pq
from fields import ENVELOPE, TYPES, fields

source, target = sys.argv[1:]
pa.set_cpu_count(1)
KINDS = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "string": pa.string(), "json": pa.string(),
         "date-time": pa.timestamp("us", "UTC"), "date": pa.date32(), "list": pa.list_(pa.int64())}


def column(values, kind):
    if kind.startswith("decimal"):
        _, precision, scale = kind.split(":")
        return pa.array(values, pa.string(), from_pandas=True).cast(pa.decimal128(int(precision), int(scale)))
    if kind in ("date", "date-time"):
        return pa.array(pd.to_datetime(values), from_pandas=True).cast(KINDS[kind])
    return pa.array(values, KINDS[kind], from_pandas=True)


started = time.process_time()
with open(source) as lines:
    events = [json.loads(line) for line in lines]
frame = pd.DataFrame([{**{k: v for k, v in e.items() if k != "data"}, **e.get("data", {})} for e in events])
frame["time"] = pd.to_datetime(frame["time"])
for (event_type, day), rows in frame.groupby(["type", frame["time"].dt.date]):
    own = [(name, "string") for name in ENVELOPE if name in rows and name != "time"] + [("time", "date-time")]
    own += [(name, kind) for name, kind in fields(event_type) if name in rows]
    table = pa.table({name: column(rows[name], kind) for name, kind in own})
    path = pathlib.Path(target) / event_type / f"dt={day}"
    path.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path / "0.parquet", compression="zstd", compression_level=1)
cpu = time.process_time() - started
print(json.dumps({"cpu_s": cpu, "bytes": sum(f.stat().st_size for f in pathlib.Path(target).rglob("*.parquet"))}))
