"""Puts the web application into the bucket that CloudFront serves it from.

    python infra/upload_console.py --stack sluice-dev                        where the stack's outputs say
    python infra/upload_console.py --stack sluice-dev --has-console          says `yes` or `no`
    python infra/upload_console.py --bucket NAME [--distribution ID]         there

What has its content in its name (assets/) is kept for a year, everything else is asked for again each time. The start page is the last to go
up, so that it never names what is not there; what an older one names stays. Then CloudFront forgets its copies of what keeps its name.
"""

import argparse
import mimetypes
import pathlib
import sys
import time

import boto3

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "web/dist"
START = "index.html"
# As local/src/runtime/console.rs says.
HASHED, FOR_A_YEAR, NEVER = "assets/", "public, max-age=31536000, immutable", "no-cache"
# What Python's own list lacks, or takes from the machine.
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml", ".webmanifest": "application/manifest+json",
         ".woff2": "font/woff2", ".json": "application/json", ".css": "text/css", ".html": "text/html", ".map": "application/json"}


def content_type(name):
    ending = pathlib.PurePosixPath(name).suffix
    found = TYPES.get(ending) or mimetypes.types_map.get(ending)
    if not found:
        sys.exit(f"`{name}` is of a type that is not known here: add `{ending}` to TYPES of infra/upload_console.py")
    is_text = found.startswith("text/") or found.endswith(("json", "xml"))
    return f"{found}; charset=utf-8" if is_text else found


def upload(folder, bucket):
    """Answers the names of what went up."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if START not in names:
        sys.exit(f"{folder} has no {START}: `scripts/web.sh` builds it")
    types = {name: content_type(name) for name in names}
    s3 = boto3.client("s3")
    for name in sorted(names, key=lambda name: (name == START, not name.startswith(HASHED))):
        caching = FOR_A_YEAR if name.startswith(HASHED) else NEVER
        with open(folder / name, "rb") as file:
            s3.put_object(Bucket=bucket, Key=name, Body=file, ContentType=types[name], CacheControl=caching)
    return names


def forget(distribution, names):
    paths = [f"/{name}" for name in names if not name.startswith(HASHED)]
    # Another one each time: pages may come back that were there before.
    batch = {"Paths": {"Quantity": len(paths), "Items": paths}, "CallerReference": str(time.time_ns())}
    boto3.client("cloudfront").create_invalidation(DistributionId=distribution, InvalidationBatch=batch)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--stack")
    arguments.add_argument("--bucket")
    arguments.add_argument("--distribution")
    arguments.add_argument("--has-console", action="store_true")
    arguments.add_argument("--folder", type=pathlib.Path, default=FOLDER)
    given = arguments.parse_args()
    bucket, distribution, url = given.bucket, given.distribution, None
    if given.stack:
        stack = boto3.client("cloudformation").describe_stacks(StackName=given.stack)["Stacks"][0]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        bucket, distribution, url = (outputs.get(name) for name in ("ConsoleBucket", "ConsoleDistribution", "ConsoleUrl"))
        if given.has_console:
            print("yes" if bucket else "no")
            return
        if not bucket:
            sys.exit(f"The stack {given.stack} has no console: `Console=yes` makes one.")
    elif not bucket:
        arguments.error("--stack or --bucket")
    names = upload(given.folder, bucket)
    if distribution:
        forget(distribution, names)
    print(f"{len(names)} files of the console are in {bucket}" + (f", served at {url}" if url else ""))


if __name__ == "__main__":
    main()
