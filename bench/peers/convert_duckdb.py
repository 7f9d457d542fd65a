"""DuckDB: a file of events to typed, partitioned zstd-1 Parquet on one thread. With `sorted` as third argument the rows are in the order
that Sluice gives them, else in the order of the file. Prints processor seconds and bytes written."""
import json, pathlib, sys, time
import duckdb
from fields import TYPES, fields

source, target, *order = sys.argv[1:]
SORT = {"web.event": "sessionid", "http.access": "path", "game.result": "play_id", "quote.trade": "subject"}
KINDS = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "string": "VARCHAR", "json": "JSON",
         "date-time": "TIMESTAMPTZ", "date": "DATE", "list": "BIGINT[]"}


def kind(name):
    return "DECIMAL({},{})".format(*name.split(":")[1:]) if name.startswith("decimal") else KINDS[name]


def member(name, as_kind):
    return "'" + name + "': '" + as_kind + "'"


pathlib.Path(target).mkdir(parents=True, exist_ok=True)
connection = duckdb.connect()
connection.execute("SET threads = 1")
data = {name: kind(k) for t in TYPES for name, k in fields(t)}
struct = "STRUCT({})".format(", ".join(f'"{name}" {k}' for name, k in data.items()))
columns = ", ".join([member(n, "VARCHAR") for n in ["id", "source", "type", "subject", "userid", "sessionid", "specversion"]]
                    + [member("time", "TIMESTAMPTZ"), member("data", struct)])
started = time.process_time()
connection.execute(f"CREATE TEMP TABLE events AS FROM read_json('{source}', format='newline_delimited', columns={{{columns}}})")
for event_type in TYPES:
    own = ", ".join(f'data."{name}" AS "{name}"' for name, _ in fields(event_type))
    connection.execute(f"""
        COPY (SELECT id, source, type, time, subject, userid, sessionid, specversion, {own}, CAST(time AS DATE) AS dt
              FROM events WHERE type = '{event_type}' {f"ORDER BY {SORT[event_type]} NULLS FIRST, time, source, id" if order else ""})
        TO '{target}/{event_type}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARTITION_BY (dt), OVERWRITE_OR_IGNORE)""")
cpu = time.process_time() - started
print(json.dumps({"cpu_s": cpu, "bytes": sum(f.stat().st_size for f in pathlib.Path(target).rglob("*.parquet"))}))
