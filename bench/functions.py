"""Size, start and memory of the functions, beside an empty one; and `convert` on a full delivery, beside a handler in Python.

    functions.py start FOLDER           FOLDER/NAME/bootstrap for each function and for `hello`
    functions.py convert FOLDER EVENTS  EVENTS: a file of CloudEvents, one a line

The runtime API is played here. For starts AWS is played too, by a server that answers at once and has nothing, so that no emulator's time is
in them; `convert` works over a whole emulator, which both sides call in the same way.
"""

import base64
import http.server
import json
import os
import pathlib
import queue
import statistics
import subprocess
import sys
import threading
import time
import uuid
import zipfile

import pyarrow as pa

ROOT = pathlib.Path(__file__).parent.parent
NAMES = ["ingest", "convert", "commit", "compact", "index", "detect", "notify", "quarantine", "api"]
STARTS = 15
MB = 1e6


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_):
        """A function that is ended closes its connections."""

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Nothing(Handler):
    """AWS with nothing in it."""

    def reply(self):
        self.body()
        target = self.headers.get("x-amz-target") or ""
        if target.endswith("GetSecretValue"):
            self.answer(200, json.dumps({"Name": "key", "SecretString": "k" * 43}).encode())
        elif "list-type=2" in self.path:
            self.answer(200, b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>')
        else:
            self.answer(200, b"{}")

    do_GET = do_PUT = do_POST = do_HEAD = reply


class Lambda:
    """A function that runs against the runtime API played here."""

    def __init__(self, bootstrap, environment):
        self.events, self.replies, self.asked = queue.Queue(), queue.Queue(), threading.Event()
        outer = self

        class Runtime(Handler):
            def do_GET(self):
                outer.asked_at = time.perf_counter()
                outer.asked.set()
                event = outer.events.get()
                if event is None:
                    return
                deadline = int((time.time() + 300) * 1000)
                headers = [
                    ("Lambda-Runtime-Aws-Request-Id", str(uuid.uuid4())),
                    ("Lambda-Runtime-Deadline-Ms", str(deadline)),
                    ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:f"),
                    ("content-type", "application/json"),
                ]
                self.answer(200, event, headers)

            def do_POST(self):
                reply = self.body()
                outer.replies.put((time.perf_counter(), self.path, reply))
                self.answer(202, b"")

        self.server = Server(Runtime)
        variables = {
            "AWS_LAMBDA_RUNTIME_API": self.server.address,
            "AWS_LAMBDA_FUNCTION_NAME": "f",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        }
        self.began = time.perf_counter()
        self.process = subprocess.Popen([bootstrap], env=variables | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def init_ms(self):
        if not self.asked.wait(60):
            self.process.kill()
            raise SystemExit(f"the function does not start: {self.process.stderr.read().decode()}")
        return (self.asked_at - self.began) * 1e3

    def call(self, event):
        """The reply and the moment that it came."""
        self.events.put(event)
        at, path, reply = self.replies.get(timeout=300)
        assert path.endswith("/response"), (path, reply)
        return at, reply

    def peak_mb(self):
        lines = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / MB

    def end(self):
        self.process.kill()
        self.process.wait()
        self.events.put(None)
        self.server.shutdown()
        self.server.server_close()


def environment(endpoint):
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "SLUICE_STACK": "bench",
        "SLUICE_TABLE": "bench-state",
        "SLUICE_BUCKET": "bench-lake",
        "SLUICE_TOPIC": "arn:aws:sns:us-east-1:000000000000:bench",
        "SLUICE_COMMIT_QUEUE": f"{endpoint}/000000000000/bench-commit",
        "SLUICE_QUARANTINE_QUEUE": f"{endpoint}/000000000000/bench-quarantine",
        "SLUICE_QUEUES": f"ConvertQueue={endpoint}/000000000000/bench-convert",
        "SLUICE_DEAD_LETTERS": f"ConvertDeadLetterQueue={endpoint}/000000000000/bench-convert-dead",
        "SLUICE_ADMIN_KEY_SECRET": "bench",
        "SLUICE_GLUE_DATABASE": "bench",
        "SLUICE_ATHENA_WORKGROUP": "bench",
        "SLUICE_SEARCH_ENDPOINT": endpoint,
        "SLUICE_SEARCH_SIGN": "none",
    }


def zipped_mb(bootstrap, at):
    with zipfile.ZipFile(at, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(bootstrap, "bootstrap")
    return at.stat().st_size / MB


def start(folder):
    aws = environment(f"http://{Server(Nothing).address}")
    health = (ROOT / "events/ingest/health.json").read_bytes()
    init, first, peak = {}, {"ingest": [], "hello": []}, {}
    # In turn, so that a change of the machine's pace meets all of them.
    for _ in range(STARTS):
        for name in ["hello", *NAMES]:
            function = Lambda(folder / name / "bootstrap", aws)
            init.setdefault(name, []).append(function.init_ms())
            peak.setdefault(name, []).append(function.peak_mb())
            if name in first:
                at, _ = function.call(health)
                first[name].append((at - function.began) * 1e3)
            function.end()
    print(f"| function | zip MB | bootstrap MB | start ms | memory MB |\n|---|---|---|---|---|")
    for name in ["hello", *NAMES]:
        bootstrap = folder / name / "bootstrap"
        figures = [zipped_mb(bootstrap, folder / f"{name}.zip"), bootstrap.stat().st_size / MB]
        figures += [statistics.median(init[name]), statistics.median(peak[name])]
        print(f"| {name} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")
    cold = {name: statistics.median(all) for name, all in first.items()}
    print(
        f"\nprocess start to first reply, median of {STARTS}: ingest {cold['ingest']:.1f} ms, empty function {cold['hello']:.1f} ms, "
        f"difference {cold['ingest'] - cold['hello']:.1f} ms (goal 25)"
    )


def packed(lines, plain):
    """A message as `ingest` packs it (`shared/domain/src/message.rs`)."""
    types = {}
    for line in lines:
        kind = json.loads(line)["type"]
        types[kind] = types.get(kind, 0) + 1
    header = {
        "v": 1,
        "batch": uuid.uuid4().hex,
        "publish": uuid.uuid4().hex,
        "received": "2026-01-15T00:00:10.000000Z",
        "areas": sorted({kind.split(".")[0] for kind in types}),
        "count": len(lines),
        "types": types,
    }
    events = "[" + ",".join(lines) + "]"
    if plain:
        return json.dumps(header)[:-1] + f', "events": {events}}}'
    zstd = pa.Codec("zstd", compression_level=1).compress(events.encode(), asbytes=True)
    return json.dumps(header | {"zstd": base64.b64encode(zstd).decode()})


def delivery(bodies):
    record = lambda n, body: {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": str(n),
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1768435210000"},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:bench-convert",
    }
    return json.dumps({"Records": [record(n, body) for n, body in enumerate(bodies)]}).encode()


def deliveries(lines, per_message, plain, limit=6_000_000):
    """A delivery of at most `limit` bytes of bodies: what Lambda hands over at once."""
    bodies, size = [], 0
    for at in range(0, len(lines) - per_message, per_message):
        body = packed(lines[at : at + per_message], plain)
        if size + len(body) > limit or len(bodies) == 1000:
            break
        bodies.append(body)
        size += len(body)
    return delivery(bodies), len(bodies), size, len(bodies) * per_message


def emulator():
    """ministack with a bucket, a queue and a table; ends with this program."""
    import socket

    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    aws = environment(endpoint)
    own = {"MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "IOT_MTLS_ENABLED": "0"}
    process = subprocess.Popen(
        [sys.executable, ROOT / "tests/emulator.py"],
        env=os.environ | aws | own | {"AWS_DEFAULT_REGION": "us-east-1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = lambda service: boto3.client(
        service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    for _ in range(300):
        try:
            client("s3").create_bucket(Bucket="bench-lake")
            break
        except Exception:
            time.sleep(0.2)
    client("sqs").create_queue(QueueName="bench-commit")
    key = lambda name, kind: {"AttributeName": name, "KeyType": kind}
    client("dynamodb").create_table(
        TableName="bench-state",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[key("pk", "HASH"), key("sk", "RANGE")],
    )
    return process, aws


def convert(folder, events):
    process, aws = emulator()
    lines = events.read_text().splitlines()
    print("| delivery | messages | events | body MB | `convert` ms | memory above its own MB | Python ms | ratio |\n|---|---|---|---|---|---|---|---|")
    for what, per_message, plain in [("packed, 1 MB of text each", 2000, False), ("plain JSON", 7, True)]:
        own_ms, peer_ms, above = [], [], []
        for _ in range(3):
            event, messages, size, count = deliveries(lines, per_message, plain)
            function = Lambda(folder / "convert" / "bootstrap", aws)
            function.init_ms()
            # What it needs for any delivery is its own: connections, tables.
            function.call(delivery([packed(lines[:4], True)]))
            before, began = function.peak_mb(), time.perf_counter()
            at, reply = function.call(event)
            assert json.loads(reply) == {"batchItemFailures": []}, reply
            own_ms.append((at - began) * 1e3)
            above.append(function.peak_mb() - before)
            function.end()
            peer_ms.append(python_handler(event, aws))
        own, peer = statistics.median(own_ms), statistics.median(peer_ms)
        print(f"| {what} | {messages} | {count} | {size / MB:.1f} | {own:.0f} | {max(above):.0f} | {peer:.0f} | {peer / own:.1f} |")
    process.kill()


def python_handler(event, aws):
    """Milliseconds of the peer for a delivery, its start and its imports left out."""
    peer = subprocess.Popen(
        [sys.executable, ROOT / "bench/peers/convert_handler.py"],
        env=os.environ | aws | {"AWS_DEFAULT_REGION": "us-east-1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    said, _ = peer.communicate(event)
    assert peer.returncode == 0
    return float(said)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["start", folder]:
            start(pathlib.Path(folder))
        case ["convert", folder, events]:
            convert(pathlib.Path(folder), pathlib.Path(events))
        case _:
            sys.exit(__doc__)
