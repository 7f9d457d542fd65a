"""The peer of the whole path: an HTTP handler as one would write it in Python. It parses a request's events, appends them to a log with
fsync, answers 202, and converts batches to Parquet by type and day with pyarrow (json + pyarrow, zstd level 1)."""
import collections, http.server, json, os, sys, threading, uuid
import pyarrow as pa, pyarrow.parquet as pq

folder = sys.argv[1]
log = open(os.path.join(folder, "log.ndjson"), "ab")
lock, waiting, BATCH = threading.Lock(), [], 50_000


def convert(events):
    groups = collections.defaultdict(list)
    for event in events:
        groups[event["type"], event["time"][:10]].append(event)
    for (kind, day), rows in groups.items():
        path = os.path.join(folder, "lake", kind, f"dt={day}")
        os.makedirs(path, exist_ok=True)
        rows.sort(key=lambda e: (e.get("subject") or "", e["time"], e["source"], e["id"]))
        flat = [{**{k: v for k, v in e.items() if k != "data"}, **e.get("data", {})} for e in rows]
        pq.write_table(pa.Table.from_pylist(flat), os.path.join(path, f"{uuid.uuid4()}.parquet"), compression="zstd", compression_level=1)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        events = [json.loads(line) for line in body.splitlines()]
        batch = None
        with lock:
            log.write(body)
            log.flush()
            os.fsync(log.fileno())
            waiting.extend(events)
            if len(waiting) >= BATCH:
                batch, waiting[:] = list(waiting), []
        if batch:
            convert(batch)
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
convert(waiting)
