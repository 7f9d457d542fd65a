#!/usr/bin/env python3
"""The lake in Amazon Redshift, by its Data API: `redshift.py views` for a warehouse that reads external tables, `redshift.py tables` and
`redshift.py load` for one that does not. README.md beside this file says what each command does and which rights it needs.

Needs PyIceberg (with `glue` and `pyarrow`) and boto3. The catalog is that of Glue, or what PyIceberg's configuration says of `sluice`.
"""

import argparse
import collections
import pathlib
import re
import secrets
import sys
import time

import boto3
import botocore.config
import botocore.exceptions
import pyarrow.parquet
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
from pyiceberg.table.snapshots import Operation
from pyiceberg.utils.config import Config

HERE = pathlib.Path(__file__).parent
# Statements that one `BatchExecuteStatement` takes.
MAX_STATEMENTS = 40
# Rows that one statement writes: it may have 100 KB, and a key takes up to 300 bytes.
ROWS_AT_ONCE = 200
# Objects of one transaction: four statements each, beside the lock, the table that is staged in, and its end.
OBJECTS_AT_ONCE = (MAX_STATEMENTS - 3) // 4
# Objects are named in the text of `COPY`, which takes no parameters: what is not of this form is not named.
KEY = re.compile(r"lake/[a-z][a-z0-9_]*/data/[A-Za-z0-9=_./-]+\.parquet")
ROOT = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
NAME = re.compile(r"[a-z_][a-z0-9_]*")
ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+")
ENDED = {"FINISHED", "FAILED", "ABORTED"}


class Stop(Exception):
    """What cannot be done, for whoever started this."""


# What one table may fail of without the others.
FAILURES = (Stop, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)


def quoted(name):
    """A name in a statement."""
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    """A text in a statement."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


class Warehouse:
    """Statements by the Data API: one call of `run` is one transaction."""

    def __init__(self, client, where):
        self.client, self.where = client, where

    def run(self, statements):
        """Runs up to 40 statements as one transaction. The client token that boto3 adds makes a call that it repeats, because its reply
        was lost, the same call."""
        return self._end(self.client.batch_execute_statement(Sqls=statements, **self.where))

    def rows(self, statement):
        """The rows of one SELECT."""
        answer = self._end(self.client.execute_statement(Sql=statement, **self.where))
        pages = self.client.get_paginator("get_statement_result").paginate(Id=answer["Id"])
        cell = lambda field: None if field.get("isNull") else next(iter(field.values()))
        return [[cell(field) for field in row] for page in pages for row in page["Records"]]

    def columns(self, schema, table):
        """Types of a table's columns, by their names; none where there is no such table."""
        pages = self.client.get_paginator("describe_table").paginate(Schema=schema, Table=table, **self.where)
        return {column["name"]: column["typeName"] for page in pages for column in page.get("ColumnList", [])}

    def _end(self, answer):
        pause = 0.1
        while True:
            said = self.client.describe_statement(Id=answer["Id"])
            if said["Status"] in ENDED:
                break
            time.sleep(pause)
            pause = min(pause * 1.5, 2)
        if said["Status"] != "FINISHED":
            raise Stop(f"Redshift answers: {said.get('Error') or said['Status']}")
        return said


def statements(file, **names):
    """The statements of a file beside this one, with names in their places. No literal in those files has a semicolon."""
    text = (HERE / file).read_text()
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    lines = (line for line in text.splitlines() if not line.startswith("--"))
    return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]


def place_of(table, name):
    """Where a table says that the lake is."""
    return table.location().rstrip("/").removesuffix(f"/lake/{name}")


class Loader:
    """Brings the appended objects of tables into Redshift, each once.

    Which those are stands in the table `_loaded`, whose rows are written first and marked as loaded by the very transaction that copies
    the object. Every transaction begins by locking that table, so that two loaders take turns, and asks there once more whether the
    object is still to be loaded: whatever was lost, repeated or ended between two calls, the next one finds the truth there.
    """

    def __init__(self, warehouse, catalog, options):
        self.warehouse, self.catalog = warehouse, catalog
        self.namespace, self.schema, self.root = options.glue_database, options.schema, options.root
        self.role = options.role if options.role == "default" else literal(options.role)
        self.ledger = f"{quoted(self.schema)}.{quoted('_loaded')}"

    def load(self, name, whole=False):
        """Loads what was appended to a table; with `whole`, all that is in it now in place of what Redshift has. Answers how many objects
        were loaded."""
        table = self._table(name)
        columns = self.warehouse.columns(self.schema, name)
        if not columns:
            raise Stop(f"Redshift has no table `{self.schema}.{name}`: run `redshift.py tables` first")
        if whole:
            self._plan_whole(name, table)
        else:
            self._plan(name, table)
        pending = self.warehouse.rows(
            f"SELECT \"object\" FROM {self.ledger} WHERE \"table_name\" = {literal(name)} AND \"object\" <> '' AND \"loaded_at\" IS NULL"
            ' ORDER BY "object"'
        )
        return self._copy(name, table, columns, [key for (key,) in pending])

    def _table(self, name):
        try:
            return self.catalog.load_table(f"{self.namespace}.{name}")
        except NoSuchTableError:
            raise Stop(f"the lake has no table `{name}`") from None

    def _plan(self, name, table):
        """Writes a row for each object that append snapshots have added since the last time."""
        known = self._known(name)
        if any(mark < 0 for mark in known):
            raise Stop(f"a load of the whole table was begun and not ended: run `redshift.py load --table {name} --whole` again")
        snapshots, chain = {s.snapshot_id: s for s in table.metadata.snapshots}, []
        at = newest = table.metadata.current_snapshot_id
        while at is not None and at not in known:
            if at not in snapshots:
                raise Stop(
                    "what was appended after the last load cannot be told any more: its snapshots have expired (24 hours are kept on AWS)."
                    f" Load the table as it is now by `redshift.py load --table {name} --whole`, and load more often than that"
                )
            chain.append(snapshots[at])
            at = snapshots[at].parent_snapshot_id
        if not chain:
            return
        if at is None and known:
            raise Stop(
                "its history does not have what was loaded last: it was made anew, or rolled back. Load it as it is now by"
                f" `redshift.py load --table {name} --whole`"
            )
        appends = (snapshot for snapshot in reversed(chain) if snapshot.summary.operation == Operation.APPEND)
        keys = [self._key(table, name, entry) for append in appends for entry in self._entries(table, append, append.snapshot_id)]
        # Another loader may have begun with the whole table meanwhile: then what was found here is found by it.
        still = f"NOT EXISTS ({self._mark_of(name)})" if at is None else f"EXISTS ({self._mark_of(name, at)})"
        self._write_rows(name, keys, still, [self._insert(name, "", newest, still)])

    def _plan_whole(self, name, table):
        """Empties the table in Redshift and writes a row for each object that the lake's table has now. Until the last of these
        transactions there is a mark of this very run, a number below 0, and what it writes depends on it."""
        snapshot = table.current_snapshot()
        keys = [self._key(table, name, entry) for entry in self._entries(table, snapshot)] if snapshot else []
        run = -secrets.randbelow(2**62) - 1
        begin = [
            f"DELETE FROM {quoted(self.schema)}.{quoted(name)}",
            f'DELETE FROM {self.ledger} WHERE "table_name" = {literal(name)}',
            self._insert(name, "", run, "1 = 1"),
        ]
        still = f"EXISTS ({self._mark_of(name, run)})"
        end = [self._insert(name, "", snapshot.snapshot_id, still)] if snapshot else []
        end.append(f'DELETE FROM {self.ledger} WHERE "table_name" = {literal(name)} AND "object" = \'\' AND "snapshot_id" = {run}')
        self.warehouse.run([self._lock(), *begin])
        self._write_rows(name, keys, still, end)

    def _known(self, name):
        """Marks: snapshots up to which all objects have their rows."""
        return {int(mark) for (mark,) in self.warehouse.rows(self._mark_of(name))}

    def _mark_of(self, name, snapshot=None):
        of = "" if snapshot is None else f' AND "snapshot_id" = {snapshot}'
        return f'SELECT "snapshot_id" FROM {self.ledger} WHERE "table_name" = {literal(name)} AND "object" = \'\'{of}'

    def _entries(self, table, snapshot, added_by=None):
        """Entries of a snapshot's data files: all of them, or those that it has added itself."""
        for manifest in snapshot.manifests(table.io):
            if manifest.content != ManifestContent.DATA:
                if added_by is None:
                    raise Stop("another engine deleted rows by delete files, which COPY does not know: let it rewrite the table (`OPTIMIZE`)")
                continue
            # One that was written by another snapshot has nothing that this one added.
            if added_by is not None and manifest.added_snapshot_id != added_by:
                continue
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                if entry.status != ManifestEntryStatus.DELETED and added_by in (None, entry.snapshot_id):
                    yield entry

    def _key(self, table, name, entry):
        """The key of an object of a table, if it is of the form that may stand in a statement."""
        path, folder = entry.data_file.file_path, f"lake/{name}/"
        key = path.removeprefix(place_of(table, name) + "/")
        if not key.startswith(folder) or not KEY.fullmatch(key) or ".." in key:
            raise Stop(f"the table `{name}` has the object `{path}`, whose name is not of the form of ours: it is not put into a statement")
        return key

    def _lock(self):
        return f"LOCK TABLE {self.ledger}"

    def _insert(self, name, key, snapshot, still):
        row = f"{literal(name)}, {literal(key)}, CAST({snapshot} AS BIGINT), GETDATE()"
        return f"INSERT INTO {self.ledger} SELECT {row} WHERE {still}"

    def _write_rows(self, name, keys, still, end):
        """Writes rows of objects that have none as long as a condition holds, and then ends with these statements."""
        there = f'SELECT 1 FROM {self.ledger} AS "there" WHERE "there"."table_name" = {literal(name)} AND "there"."object" = "new"."object"'
        row = f'{literal(name)}, "new"."object", CAST(NULL AS BIGINT), CAST(NULL AS TIMESTAMPTZ)'
        inserts = []
        for begin in range(0, len(keys), ROWS_AT_ONCE):
            selects = (f'SELECT CAST({literal(key)} AS VARCHAR(1024)) AS "object"' for key in keys[begin : begin + ROWS_AT_ONCE])
            new = f'SELECT {row} FROM ({" UNION ALL ".join(selects)}) AS "new"'
            inserts.append(f"INSERT INTO {self.ledger} {new} WHERE NOT EXISTS ({there}) AND {still}")
        room = MAX_STATEMENTS - 1 - len(end)
        while len(inserts) > room:
            self.warehouse.run([self._lock(), *inserts[:room]])
            del inserts[:room]
        self.warehouse.run([self._lock(), *inserts, *end])

    def _copy(self, name, table, columns, keys):
        """Copies objects, those with the same columns in one transaction. One that cannot be copied does not hold up the others."""
        failed, batches = [], collections.defaultdict(list)
        for key in keys:
            try:
                batches[self._columns_of(name, table, columns, key)].append(key)
            except Stop as error:
                failed.append(str(error))
        for names, of_batch in batches.items():
            for begin in range(0, len(of_batch), OBJECTS_AT_ONCE):
                together = of_batch[begin : begin + OBJECTS_AT_ONCE]
                try:
                    self.warehouse.run(self._transaction(name, columns, names, together))
                    continue
                except Stop as error:
                    alone = together if len(together) > 1 else []
                    failed += [] if alone else [f"`{together[0]}`: {error}"]
                for key in alone:
                    try:
                        self.warehouse.run(self._transaction(name, columns, names, [key]))
                    except Stop as error:
                        failed.append(f"`{key}`: {error}")
        if failed:
            raise Stop(f"{len(failed)} of {len(keys)} objects were not loaded, and are tried again the next time:\n  " + "\n  ".join(failed))
        return len(keys)

    def _columns_of(self, name, table, columns, key):
        """Names of an object's columns in their order. `COPY` goes by the order alone, and objects have the columns of their time."""
        try:
            with table.io.new_input(f"{place_of(table, name)}/{key}").open() as file:
                names = tuple(pyarrow.parquet.read_schema(file).names)
        except FileNotFoundError:
            raise Stop(f"`{key}` is gone: it was merged into others before it was loaded; run `redshift.py load --table {name} --whole`") from None
        if unknown := [column for column in names if column not in columns]:
            raise Stop(
                f"`{key}` has the columns {unknown}, and Redshift's table has not: add them as tables.sql says,"
                f' ALTER TABLE {quoted(self.schema)}.{quoted(name)} ADD COLUMN …'
            )
        return names

    def _transaction(self, name, columns, names, keys):
        """Copies each object into a table for it alone, whose rows go on if the object is still to be loaded."""
        to, stage = f"{quoted(self.schema)}.{quoted(name)}", quoted("_stage")
        # Timestamps are copied as such in UTC: of `COPY` with a time zone the manual says nothing.
        is_zoned = lambda column: columns[column] in ("timestamptz", "timestamp with time zone")
        staged = (f"CAST({quoted(c)} AS TIMESTAMP) AS {quoted(c)}" if is_zoned(c) else quoted(c) for c in names)
        moved = (f"{quoted(c)} AT TIME ZONE 'UTC'" if is_zoned(c) else quoted(c) for c in names)
        insert = f"INSERT INTO {to} ({', '.join(map(quoted, names))}) SELECT {', '.join(moved)} FROM {stage}"
        all_of_it = [self._lock(), f"CREATE TEMP TABLE {stage} AS SELECT {', '.join(staged)} FROM {to} WHERE 1 = 0"]
        for key in keys:
            due = f'"table_name" = {literal(name)} AND "object" = {literal(key)} AND "loaded_at" IS NULL'
            all_of_it += [
                f"COPY {stage} FROM {literal(f'{self.root}/{key}')} IAM_ROLE {self.role} FORMAT AS PARQUET SERIALIZETOJSON",
                f"{insert} WHERE EXISTS (SELECT 1 FROM {self.ledger} WHERE {due})",
                f'UPDATE {self.ledger} SET "loaded_at" = GETDATE() WHERE {due}',
                f"DELETE FROM {stage}",
            ]
        return [*all_of_it, f"DROP TABLE {stage}"]


def arguments(given):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["views", "refresh", "tables", "load"])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workgroup", help="of Redshift Serverless")
    where.add_argument("--cluster", help="identifier of a provisioned cluster")
    parser.add_argument("--database", default="dev", help="Redshift's database")
    parser.add_argument("--db-user", help="user of a cluster, where it is not the caller's own role")
    parser.add_argument("--secret-arn", help="secret with user and password, in place of temporary ones")
    parser.add_argument("--schema", default="sluice", help="Redshift's schema for what this makes")
    parser.add_argument("--external", default="sluice_lake", help="name of the external schema")
    parser.add_argument("--glue-database", help="the lake's, for example sluice_dev_lake")
    parser.add_argument("--role", default="default", help="ARN of the role by which Redshift reads the bucket and Glue")
    parser.add_argument("--bucket", help="s3://…, where the tables lie; needed for `load`")
    parser.add_argument("--table", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--whole", action="store_true", help="all that the tables have now, in place of what was loaded")
    options = parser.parse_args(given)
    options.root = (options.bucket or "").rstrip("/")
    for option, form in {"schema": NAME, "external": NAME, "glue_database": NAME, "role": ROLE, "root": ROOT}.items():
        value = getattr(options, option)
        if value and not (option == "role" and value == "default") and not form.fullmatch(value):
            parser.error(f"--{'bucket' if option == 'root' else option.replace('_', '-')}: `{value}` is not of the form `{form.pattern}`")
    if options.command in ("views", "load") and not options.glue_database:
        parser.error(f"`{options.command}` needs --glue-database")
    if options.command == "load" and not options.root:
        parser.error("`load` needs --bucket")
    if options.whole and not options.table:
        parser.error("--whole empties tables: name them with --table")
    return options


def names_of(made, file, schema):
    """Names of the tables or views that a file makes."""
    made = re.compile(rf'CREATE {made} "{schema}"\."([a-z][a-z0-9_]*)"')
    return [found[1] for statement in statements(file, schema=schema) if (found := made.match(statement))]


def run(options, client, catalog):
    """Does what was asked; answers the exit code. `catalog` is asked for where it is needed."""
    where = {"WorkgroupName": options.workgroup, "ClusterIdentifier": options.cluster, "Database": options.database}
    where |= {"DbUser": options.db_user, "SecretArn": options.secret_arn}
    warehouse = Warehouse(client, {name: value for name, value in where.items() if value})
    if options.command == "views":
        names = {"external": options.external, "database": options.glue_database, "role": options.role, "schema": options.schema}
        for file in ("external-schema.sql", "views.sql"):
            for statement in statements(file, **names):
                # The keyword stands without quotes.
                warehouse.run([statement.replace("IAM_ROLE 'default'", "IAM_ROLE default")])
    elif options.command == "refresh":
        for name in options.table or names_of("MATERIALIZED VIEW", "views.sql", options.schema):
            warehouse.run([f"REFRESH MATERIALIZED VIEW {quoted(options.schema)}.{quoted(name)}"])
            print(f"{name}: refreshed")
    elif options.command == "tables":
        for statement in statements("tables.sql", schema=options.schema):
            warehouse.run([statement])
    else:
        return load(Loader(warehouse, catalog(), options), options)
    return 0


def load(loader, options):
    there = {name[-1] for name in loader.catalog.list_tables(options.glue_database)}
    names = options.table or [n for n in names_of("TABLE IF NOT EXISTS", "tables.sql", options.schema) if n in there]
    code = 0
    for name in names:
        try:
            print(f"{name}: {loader.load(name, options.whole)} objects loaded", flush=True)
        except FAILURES as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            code = 1
    return code


def main(given):
    options = arguments(given)
    # The same token with each try: what was done, and not answered, is not done again.
    client = boto3.client("redshift-data", config=botocore.config.Config(retries={"mode": "standard", "max_attempts": 5}))
    configured = Config().get_catalog_config("sluice")
    try:
        return run(options, client, lambda: load_catalog("sluice", **({} if configured else {"type": "glue"})))
    except FAILURES as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
