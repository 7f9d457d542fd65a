"""DuckDB reads the NDJSON file and writes partitioned zstd Parquet, on one thread. Prints the seconds."""
import shutil, sys, time
import duckdb

source, target = sys.argv[1], sys.argv[1] + ".out"
shutil.rmtree(target, ignore_errors=True)
connection = duckdb.connect()
connection.execute("SET threads = 1")
started = time.perf_counter()
connection.execute(f"""
    COPY (SELECT *, left(cast(time AS varchar), 10) AS dt
          FROM read_json('{source}', format='newline_delimited',
                         columns={{id: 'varchar', source: 'varchar', type: 'varchar', time: 'timestamp', subject: 'varchar', userid: 'varchar', data: 'json'}}))
    TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARTITION_BY (type, dt))""")
print(time.perf_counter() - started)
