"""Compares what the one-machine runtime and an emulated account made of the same events.

Its only argument is a JSON object: `data` (the data folder), `local` and `key` (address and key of the runtime), `bucket`, `database` (of
Glue), `mails` (address of the emulator's inbox), `account`, and `opensearch` (an address, or null). Prints for each kind of thing what either world has of it: counts, and
examples of what only one of them has.
"""

import collections
import email
import email.policy
import glob
import json
import os
import sys
import urllib.request

import boto3

# What a request says of its sender and its time, which are not the same twice.
PASSING = {"receivedtime", "received", "clientip", "useragent", "key"}
# Who did what with admin rights is each world's own.
OWN = "sluice_audit"


def canonical(thing, without=PASSING):
    kept = {name: value for name, value in thing.items() if value is not None and name not in without}
    return json.dumps(kept, sort_keys=True, default=str, ensure_ascii=False)


def ask(url, body=None, key=None):
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


def glue():
    """The catalog of the account that the environment names."""
    from pyiceberg.catalog.glue import GlueCatalog

    endpoint, names = os.environ["AWS_ENDPOINT_URL"], {"access-key-id": "AWS_ACCESS_KEY_ID", "secret-access-key": "AWS_SECRET_ACCESS_KEY"}
    access = {f"s3.{name}": os.environ[variable] for name, variable in names.items()}
    return GlueCatalog("aws", **{"glue.endpoint": endpoint, "s3.endpoint": endpoint, "s3.region": os.environ["AWS_REGION"]} | access)


def sqlite(folder):
    from pyiceberg.catalog.sql import SqlCatalog

    return SqlCatalog("sluice", uri=f"sqlite:///{folder}/catalog.sqlite", warehouse=f"file://{folder}")


def rows(catalog, namespace):
    """One text per row, with its table."""
    return [
        f"{name[1]} {canonical(row)}"
        for name in catalog.list_tables(namespace)
        if name[1] != OWN
        for row in catalog.load_table(name).scan().to_arrow().to_pylist()
    ]


def rejections(files):
    # The id of what ingest rejected is made anew each time.
    return [canonical(json.loads(read()), PASSING | {"id"}) for _, read in files]


def documents(search):
    found = []
    types = search({"size": 0, "aggs": {"types": {"terms": {"field": "type", "size": 100}}}})["aggregations"]["types"]
    for bucket in types["buckets"]:
        if bucket["key"] == OWN.replace("_", "."):
            continue
        hits = search({"size": 10_000, "query": {"term": {"type": bucket["key"]}}})["hits"]["hits"]
        assert len(hits) == bucket["doc_count"], (bucket, len(hits))
        found += [f"{hit['_index']} {hit['_id']} {canonical(hit['_source'])}" for hit in hits]
    return found


def local_mails(folder):
    for path in glob.glob(f"{folder}/outbox/*.eml"):
        with open(path, "rb") as file:
            mail = email.message_from_binary_file(file, policy=email.policy.default)
        text = mail.get_body(("plain",)).get_content()
        yield canonical({"to": [str(mail["to"])], "subject": str(mail["subject"]), "text": text.split()})


def ses_mails(inbox, account):
    for mail in ask(inbox)["messages"].get(account, []):
        yield canonical({"to": mail["To"], "subject": mail["Subject"], "text": mail["BodyText"].split()})


def main(asked):
    s3, folder = boto3.client("s3"), asked["data"]

    def here(pattern):
        return [(path, open(path, "rb").read) for path in glob.glob(f"{folder}/{pattern}", recursive=True)]

    def there(prefix):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=asked["bucket"], Prefix=prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return [(key, s3.get_object(Bucket=asked["bucket"], Key=key)["Body"].read) for key in keys]

    pairs = {
        "rows": (rows(sqlite(folder), "lake"), rows(glue(), asked["database"])),
        "rejections": (rejections(here("quarantine/**/*.json")), rejections(there("quarantine/"))),
        "mails": (list(local_mails(folder)), list(ses_mails(asked["mails"], asked["account"]))),
    }
    if asked["opensearch"]:
        pairs["documents"] = (
            documents(lambda body: ask(f"{asked['local']}/v1/search?index=sluice-*", body, asked["key"])),
            documents(lambda body: ask(f"{asked['opensearch']}/sluice-*/_search", body)),
        )
    answer = {}
    for name, both in pairs.items():
        local, aws = map(collections.Counter, both)
        answer[name] = {
            "local": local.total(),
            "aws": aws.total(),
            "only_local": list(local - aws)[:3],
            "only_aws": list(aws - local)[:3],
        }
    print(json.dumps(answer, ensure_ascii=False))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
