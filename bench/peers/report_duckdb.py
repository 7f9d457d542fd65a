"""DuckDB answers a statement over Parquet files, on two threads. Takes a JSON file of tables, sql and times; prints the best time."""
import json, sys, time
import duckdb

ask = json.load(open(sys.argv[1]))
connection = duckdb.connect()
connection.execute("SET threads = 2")
connection.execute("SET TimeZone = 'UTC'")
for name, files in ask["tables"].items():
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({json.dumps(files)}, union_by_name = false)".replace('"', "'"))
best = None
for _ in range(ask["times"]):
    began = time.perf_counter()
    rows = connection.execute(ask["sql"]).fetchall()
    took = (time.perf_counter() - began) * 1000
    best = took if best is None else min(best, took)
assert rows
print(json.dumps({"ms": best, "rows": len(rows)}))
