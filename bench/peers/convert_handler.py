"""The peer of `convert`: a Lambda handler as one would write it with pandas and pyarrow. Takes an SQS event on standard input, writes a Parquet
file per type and day to the bucket, prints how many milliseconds that took."""

import base64
import collections
import io
import json
import os
import sys
import time
import uuid

import boto3
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

s3, zstd = boto3.client("s3"), pa.Codec("zstd")


def events_of(body):
    message = json.loads(body)
    if "events" in message:
        return message["events"]
    packed = base64.b64decode(message["zstd"])
    # The frame says how long its content is (RFC 8878, 3.1.1.1).
    flag = packed[4] >> 6
    at, width = (5 if packed[4] & 0x20 else 6), {0: 1, 1: 2, 2: 4, 3: 8}[flag]
    size = int.from_bytes(packed[at : at + width], "little") + (256 if flag == 1 else 0)
    return json.loads(zstd.decompress(packed, size, asbytes=True))


def handler(event, _):
    groups = collections.defaultdict(list)
    for record in event["Records"]:
        for one in events_of(record["body"]):
            groups[one["type"], one["time"][:10]].append({**{k: v for k, v in one.items() if k != "data"}, **one["data"]})
    for (kind, day), rows in groups.items():
        frame = pd.DataFrame(rows).sort_values(["time", "source", "id"])
        file = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file, compression="zstd", compression_level=1)
        s3.put_object(Bucket=os.environ["SLUICE_BUCKET"], Key=f"peer/{kind}/dt={day}/{uuid.uuid4()}.parquet", Body=file.getvalue())
    return {"batchItemFailures": []}


event = sys.stdin.buffer.read()
s3.list_objects_v2(Bucket=os.environ["SLUICE_BUCKET"], MaxKeys=1)
began = time.perf_counter()
handler(json.loads(event), None)
print((time.perf_counter() - began) * 1e3)
