"""Polars: a file of events to typed, partitioned zstd-1 Parquet on one thread. Prints processor seconds and bytes written."""
import json, pathlib, sys, time
import polars as pl
from fields import ENVELOPE, TYPES, fields

source, target = sys.argv[1:]
READ = {"integer": pl.Int64, "number": pl.Float64, "boolean": pl.Boolean, "list": pl.List(pl.Int64)}


def cast(name, kind):
    column = pl.col(name)
    if kind.startswith("decimal"):
        _, precision, scale = kind.split(":")
        return column.cast(pl.Decimal(int(precision), int(scale)))
    if kind == "date":
        return column.str.to_date("%Y-%m-%d")
    if kind == "date-time":
        return column.str.to_datetime(time_unit="us", time_zone="UTC")
    return column


data = {name: READ.get(kind, pl.String) for t in TYPES for name, kind in fields(t)}
schema = {name: pl.String for name in ENVELOPE} | {"data": pl.Struct(data)}
started = time.process_time()
events = pl.read_ndjson(source, schema=schema)
events = events.with_columns(pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.6fZ", time_unit="us", time_zone="UTC"))
for (event_type,), rows in events.group_by("type"):
    own = fields(event_type)
    rows = rows.unnest("data").select(*ENVELOPE, *[cast(name, kind) for name, kind in own])
    for (day,), part in rows.group_by(pl.col("time").dt.date()):
        path = pathlib.Path(target) / event_type / f"dt={day}"
        path.mkdir(parents=True, exist_ok=True)
        part.write_parquet(path / "0.parquet", compression="zstd", compression_level=1)
cpu = time.process_time() - started
print(json.dumps({"cpu_s": cpu, "bytes": sum(f.stat().st_size for f in pathlib.Path(target).rglob("*.parquet"))}))
