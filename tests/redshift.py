"""Holds `infra/redshift/` against a parser of Redshift's language, and its loader against a fake of the Data API over DuckDB.

Arguments: `sql`, or `loads` and a data folder whose table `http_access` was appended to, compacted, and appended to again. Each class of tests
below is run by one of them. The fake takes only statements that the parser knows in every detail, runs each call as one transaction on a
snapshot of its own, and knows `LOCK`.
"""

import contextlib
import http.server
import importlib.util
import io
import json
import logging
import os
import pathlib
import re
import sys
import threading
import types
import unittest
import uuid

import duckdb
import sqlglot
from sqlglot import exp

HERE = pathlib.Path(__file__).parent.parent / "infra/redshift"
TABLE = "http_access"
BUCKET = "s3://sluice-lake"

# It says of what it has no form for that it has none; `parsed` decides.
logging.getLogger("sqlglot").setLevel(logging.ERROR)

spec = importlib.util.spec_from_file_location("redshift", HERE / "redshift.py")
redshift = importlib.util.module_from_spec(spec)
spec.loader.exec_module(redshift)

# What the parser has no form for, word by word.
NAME = r'"[a-z_][a-z0-9_]*"'
UNMODELLED = [
    rf"LOCK TABLE {NAME}\.{NAME}",
    rf"REFRESH MATERIALIZED VIEW {NAME}\.{NAME}",
    rf"CREATE EXTERNAL SCHEMA IF NOT EXISTS {NAME}\s+FROM DATA CATALOG\s+DATABASE '[a-z_]+'\s+IAM_ROLE ('arn:[^']+'|default)",
]
# The parser takes any words for parameters of `COPY`.
COPY = re.compile(
    rf"COPY {NAME} FROM '{BUCKET}/(lake/[a-z_]+/data/[^'\\]+\.parquet)' IAM_ROLE (?:'arn:[^']+'|default) FORMAT AS PARQUET SERIALIZETOJSON"
)


def parsed(statement):
    """The statement's tree; an error where it is not one whole statement of Redshift's language."""
    trees = sqlglot.parse(statement, read="redshift", error_level=sqlglot.ErrorLevel.RAISE)
    if len(trees) != 1 or trees[0] is None:
        raise ValueError(f"not one statement: {statement}")
    if any(isinstance(node, exp.Command) for node in trees[0].walk()) and not any(re.fullmatch(f, statement) for f in UNMODELLED):
        raise ValueError(f"not understood: {statement}")
    if isinstance(trees[0], exp.Copy) and not COPY.fullmatch(statement):
        raise ValueError(f"not a COPY of ours: {statement}")
    return trees[0]


def columns(select):
    return [column.alias_or_name for column in select.expressions]


class Sql(unittest.TestCase):
    NAMES = {"schema": "sluice", "external": "sluice_lake", "database": "sluice_dev_lake"}

    def test_every_statement_is_one_of_the_language(self):
        for role in ("arn:aws:iam::123456789012:role/sluice", "default"):
            names = self.NAMES | {"role": role}
            for file in ("external-schema.sql", "views.sql", "tables.sql"):
                statements = redshift.statements(file, **names)
                self.assertEqual(len(statements), HERE.joinpath(file).read_text().count(";\n"), file)
                for statement in statements:
                    parsed(statement.replace("IAM_ROLE 'default'", "IAM_ROLE default"))

    def test_a_broken_statement_is_found(self):
        sound = [s for f in ("views.sql", "tables.sql") for s in redshift.statements(f, **self.NAMES)]
        words = [("SELECT", "SELCT"), ("CREATE TABLE", "CREATE TABEL"), ("FROM", "FORM"), (") NOT NULL", " NOT NULL"), ("AS\n", "ASS\n")]
        for word, broken in words:
            of_it = [s.replace(word, broken, 1) for s in sound if word in s]
            self.assertTrue(of_it, word)
            for statement in of_it:
                with self.assertRaises((ValueError, sqlglot.ParseError), msg=statement):
                    parsed(statement)
        for statement in ("LOCK TABLE sluice", "COPY \"_stage\" FROM 's3://x/y' FORMAT AS PARQUETT", "SELECT 1; SELECT 2"):
            with self.assertRaises((ValueError, sqlglot.ParseError), msg=statement):
                parsed(statement)

    def test_views_and_tables_are_of_the_same_columns_and_of_all_schemas(self):
        made = {"views.sql": {}, "tables.sql": {}}
        for file, of in made.items():
            for statement in redshift.statements(file, **self.NAMES):
                tree = parsed(statement)
                if not isinstance(tree, exp.Create) or tree.kind == "SCHEMA":
                    continue
                table = tree.find(exp.Table).name
                of[table] = columns(tree.expression) if tree.expression else [c.name for c in tree.find_all(exp.ColumnDef)]
        del made["tables.sql"]["_loaded"]
        self.assertEqual(made["views.sql"], made["tables.sql"])
        types = {json.loads(file.read_text())["x-type"] for file in (HERE.parent.parent / "schemas").glob("*.json")}
        self.assertEqual(set(made["views.sql"]), {name.replace(".", "_") for name in types})
        self.assertEqual(set(redshift.names_of("TABLE IF NOT EXISTS", "tables.sql", "sluice")), set(made["tables.sql"]))
        self.assertEqual(redshift.names_of("MATERIALIZED VIEW", "views.sql", "sluice"), list(made["views.sql"]))


class Warehouse:
    """The fake: Redshift Serverless, whose transactions see a snapshot of their own, behind the Data API."""

    def __init__(self, folder):
        self.folder, self.db = folder, duckdb.connect()
        self.db.execute("SET TimeZone = 'UTC'")
        self.lock, self.ended, self.tokens = threading.RLock(), {}, {}
        self.calls, self.copied = [], []
        # Called with the statements of a transaction, before and after; what it raises is a connection that broke.
        self.before = self.after = lambda statements: None
        # Called with each COPY.
        self.copying = lambda: None
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                operation = self.headers["x-amz-target"].removeprefix("RedshiftData.")
                try:
                    reply = json.dumps(getattr(fake, operation)(**body)).encode()
                except ConnectionError:
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("content-type", "application/x-amz-json-1.1")
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.db.close()

    def BatchExecuteStatement(self, Sqls, ClientToken, Database, WorkgroupName):
        assert 1 <= len(Sqls) <= 40 and all(len(sql.encode()) <= 100_000 for sql in Sqls)
        self.before(Sqls)
        if ClientToken not in self.tokens:
            self.calls.append(Sqls)
            self.tokens[ClientToken] = self.run(Sqls)
        self.after(Sqls)
        return {"Id": self.tokens[ClientToken]}

    def ExecuteStatement(self, Sql, ClientToken, Database, WorkgroupName):
        return {"Id": self.run([Sql])}

    def DescribeStatement(self, Id):
        return {"Id": Id, **self.ended[Id][0]}

    def GetStatementResult(self, Id):
        cell = lambda value: {"isNull": True} if value is None else {"longValue" if isinstance(value, int) else "stringValue": value}
        return {"Records": [[cell(value) for value in row] for row in self.ended[Id][1]]}

    def DescribeTable(self, Schema, Table, Database, WorkgroupName):
        select = "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = ? AND table_name = ?"
        words = {"TIMESTAMP WITH TIME ZONE": "timestamptz", "JSON": "super", "VARCHAR": "varchar"}
        rows = self.db.cursor().execute(select, [Schema, Table]).fetchall()
        return {"ColumnList": [{"name": name, "typeName": words.get(kind, kind.lower())} for name, kind in rows]}

    def run(self, statements):
        said, rows = {"Status": "FINISHED"}, []
        session, held, begun = self.db.cursor(), False, False
        session.execute("SET TimeZone = 'UTC'")
        try:
            for statement in statements:
                tree = parsed(statement)
                if statement.startswith("LOCK"):
                    held = held or self.lock.acquire()
                    continue
                # The snapshot is that of the first statement that is no LOCK.
                begun = begun or session.begin()
                if copy := COPY.fullmatch(statement):
                    self.copy(session, copy[1])
                    self.copying()
                    continue
                # JSON takes what SUPER takes.
                for kind in tree.find_all(exp.DataType):
                    if kind.this == exp.DataType.Type.SUPER:
                        kind.replace(exp.DataType.build("json"))
                rows = session.execute(tree.sql("duckdb", unsupported_level=sqlglot.ErrorLevel.IGNORE)).fetchall()
            session.commit()
        except (duckdb.Error, sqlglot.ParseError, ValueError) as error:
            with contextlib.suppress(duckdb.Error):
                session.rollback()
            said, rows = {"Status": "FAILED", "Error": str(error)}, []
        finally:
            if held:
                self.lock.release()
        answer = str(uuid.uuid4())
        self.ended[answer] = (said, rows)
        return answer

    def copy(self, session, key):
        """By the order of columns alone, as COPY does, and not into time zones."""
        path = self.folder / key
        stage = session.execute("DESCRIBE _stage").fetchall()
        if any("TIME ZONE" in kind for _, kind, *_ in stage):
            raise ValueError("COPY into a timestamp with a time zone is not documented")
        file = session.execute("DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false)", [str(path)]).fetchall()
        if len(file) != len(stage):
            raise ValueError(f"unmatched number of columns: {len(file)} and {len(stage)}")
        values = (f'to_json("{name}")' if kind.endswith("[]") else f'"{name}"' for name, kind, *_ in file)
        session.execute(f"INSERT INTO _stage SELECT {', '.join(values)} FROM read_parquet(?, hive_partitioning = false)", [str(path)])
        self.copied.append(key)


class AsItStood:
    """The catalog as it was when the table had so many states."""

    def __init__(self, folder, states=None):
        from pyiceberg.catalog.sql import SqlCatalog

        self.catalog = SqlCatalog("sluice", uri=f"sqlite:///{folder}/catalog.sqlite", warehouse=f"file://{folder}")
        self.states = states

    def list_tables(self, namespace):
        return self.catalog.list_tables(namespace)

    def load_table(self, name):
        from pyiceberg.table import StaticTable

        table = self.catalog.load_table(name)
        of_metadata = [entry.metadata_file for entry in table.metadata.metadata_log] + [table.metadata_location]
        return table if self.states is None else StaticTable.from_metadata(of_metadata[self.states])


class Killed(BaseException):
    """The loader's process ends."""


class Loads(unittest.TestCase):
    folder, maxDiff = None, None

    @classmethod
    def setUpClass(cls):
        table = AsItStood(cls.folder).load_table(f"lake.{TABLE}")
        cls.operations = [s.summary.operation.value for s in sorted(table.metadata.snapshots, key=lambda s: s.sequence_number)]
        files = {}
        cls.appended = set()
        for snapshot in table.metadata.snapshots:
            for manifest in snapshot.manifests(table.io):
                for entry in manifest.fetch_manifest_entry(table.io):
                    files[entry.data_file.file_path.removeprefix(f"file://{cls.folder}/")] = entry.snapshot_id
        appends = {s.snapshot_id for s in table.metadata.snapshots if s.summary.operation.value == "append"}
        cls.appended = {key for key, snapshot in files.items() if snapshot in appends}
        cls.live = {f["file_path"].removeprefix(f"file://{cls.folder}/") for f in table.inspect.files().to_pylist()}

    def setUp(self):
        self.fake = Warehouse(pathlib.Path(self.folder))
        self.addCleanup(self.fake.close)
        os.environ.update(AWS_ENDPOINT_URL_REDSHIFT_DATA=self.fake.url, AWS_REGION="eu-central-1", AWS_DEFAULT_REGION="eu-central-1")
        os.environ.update(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
        self.assertEqual(self.main("tables"), (0, ""))
        self.fake.calls.clear()

    def main(self, *given, states=None, table=TABLE):
        """Runs the program; answers its exit code and what it complained of."""
        arguments = [*given, "--workgroup", "sluice", "--glue-database", "lake", "--bucket", BUCKET]
        arguments += ["--table", table] if given[0] == "load" else []
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            redshift.load_catalog = lambda *_, **__: AsItStood(self.folder, states)
            code = redshift.main(arguments)
        return code, said.getvalue()

    def rows(self):
        return sorted(self.fake.db.execute(f'SELECT source, id, receivedtime FROM sluice."{TABLE}"').fetchall())

    def of_files(self, keys):
        """Rows of these files."""
        files = [str(pathlib.Path(self.folder) / key) for key in sorted(keys)]
        return sorted(self.fake.db.execute("SELECT source, id, receivedtime FROM read_parquet(?, hive_partitioning = false)", [files]).fetchall())

    def test_what_was_appended_is_loaded_once_and_what_was_compacted_is_not(self):
        self.assertIn("replace", self.operations)
        self.assertEqual((self.operations[0], self.operations[-1]), ("append", "append"))
        self.assertFalse(self.live <= self.appended, "compaction made a file")
        self.assertEqual(self.main("load"), (0, ""))
        self.assertEqual(sorted(self.fake.copied), sorted(self.appended))
        self.assertEqual(self.rows(), self.of_files(self.appended))
        self.assertGreater(len(self.rows()), len(self.of_files(self.live)), "what compaction found repeated stays")
        self.assertEqual(self.main("load"), (0, ""))
        self.assertEqual(len(self.fake.copied), len(self.appended), "nothing is copied again")

    def test_loads_between_the_states_of_the_table_come_to_the_same(self):
        states = len(self.operations) + 1
        for given in ([*range(states)], [2, states - 1], [1, 1, states - 2, states - 1]):
            with self.subTest(given):
                self.setUp()
                for state in given:
                    self.assertEqual(self.main("load", states=state), (0, ""))
                self.assertEqual(sorted(self.fake.copied), sorted(self.appended))
                self.assertEqual(self.rows(), self.of_files(self.appended))

    def test_values_are_those_of_the_files(self):
        self.main("load")
        names = "id, time, receivedtime, status, elapsed_ms, path"
        files = [str(pathlib.Path(self.folder) / key) for key in self.appended]
        theirs = self.fake.db.execute(f"SELECT {names} FROM read_parquet(?, hive_partitioning = false) ORDER BY ALL", [files]).fetchall()
        self.assertEqual(self.fake.db.execute(f"SELECT {names} FROM sluice.{TABLE} ORDER BY ALL").fetchall(), theirs)

    def test_a_loader_that_ends_anywhere_is_gone_on_with(self):
        self.main("load")
        calls = len(self.fake.calls)
        self.assertGreater(calls, 1)
        run = redshift.Warehouse.run
        for command in (["load"], ["load", "--whole"]):
            for at in range(calls + 1):
                for effect in (False, True):
                    with self.subTest(command=command, at=at, effect=effect):
                        self.setUp()
                        done = [0]

                        def dying(warehouse, statements):
                            done[0] += 1
                            if done[0] == at + 1 and not effect:
                                raise Killed
                            answer = run(warehouse, statements)
                            if done[0] == at + 1:
                                raise Killed
                            return answer

                        redshift.Warehouse.run = dying
                        try:
                            with contextlib.suppress(Killed):
                                self.main(*command)
                        finally:
                            redshift.Warehouse.run = run
                        code, said = self.main("load")
                        of = self.appended if command == ["load"] else self.live
                        if code:
                            self.assertIn("begun and not ended", said)
                            self.assertEqual((command[-1], self.rows()), ("--whole", []))
                            self.assertEqual(self.main("load", "--whole"), (0, ""))
                        elif command[-1] == "--whole" and at == 0 and not effect:
                            of = self.appended
                        self.assertEqual(self.rows(), self.of_files(of))

    def test_a_reply_that_was_lost_is_asked_for_by_the_same_token(self):
        lost = set()

        def once(statements):
            if statements[1] not in lost:
                lost.add(statements[1])
                raise ConnectionError

        self.fake.after = once
        self.assertEqual(self.main("load"), (0, ""))
        self.assertGreater(len(lost), 1)
        self.assertEqual(self.rows(), self.of_files(self.appended))
        self.assertEqual(sorted(self.fake.copied), sorted(self.appended), "no transaction ran twice")

    def test_two_loaders_at_once_take_turns(self):
        # Both are within their transactions at once, if nothing keeps them apart.
        meeting = threading.Barrier(2, timeout=0.3)

        def meet():
            with contextlib.suppress(threading.BrokenBarrierError):
                meeting.wait()

        self.fake.copying = meet
        options = redshift.arguments(["load", "--workgroup", "sluice", "--glue-database", "lake", "--bucket", BUCKET, "--table", TABLE])
        loads, starting = [], threading.Barrier(2)

        def load():
            starting.wait()
            import boto3

            said = io.StringIO()
            client = boto3.client("redshift-data")
            warehouse = redshift.Warehouse(client, {"WorkgroupName": "sluice", "Database": "dev"})
            loads.append(redshift.Loader(warehouse, AsItStood(self.folder), options).load(TABLE))

        # Both have found the same objects to load.
        pending, found = redshift.Loader._copy, threading.Barrier(2)

        def together(*given):
            found.wait()
            return pending(*given)

        redshift.Loader._copy = together
        try:
            threads = [threading.Thread(target=load) for _ in range(2)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
        finally:
            redshift.Loader._copy = pending
        self.assertEqual(loads, [len(self.appended)] * 2, "neither failed")
        self.assertEqual(len(self.fake.copied), 2 * len(self.appended), "both have copied, and one of them has kept it")
        self.assertEqual(self.rows(), self.of_files(self.appended))

    def test_a_loader_that_comes_too_late_says_so_and_the_whole_table_can_be_loaded(self):
        self.assertEqual(self.main("load", states=1), (0, ""))
        # All between has expired but the newest.
        from pyiceberg.catalog.sql import SqlCatalog

        load_table = SqlCatalog.load_table

        def expired(catalog, name):
            table = load_table(catalog, name)
            metadata = table.metadata
            table.metadata = metadata.model_copy(update={"snapshots": [table.current_snapshot()]})
            return table

        SqlCatalog.load_table = expired
        try:
            before = self.rows()
            code, said = self.main("load")
            self.assertEqual(code, 1)
            self.assertIn("its snapshots have expired", said)
            self.assertIn(f"`redshift.py load --table {TABLE} --whole`", said)
            self.assertEqual(self.rows(), before, "nothing was loaded in part")
            self.assertEqual(self.main("load", "--whole"), (0, ""))
            self.assertEqual(self.rows(), self.of_files(self.live))
            self.assertEqual(self.main("load"), (0, ""), "it goes on from there")
            self.assertEqual(self.rows(), self.of_files(self.live))
        finally:
            SqlCatalog.load_table = load_table

    def test_a_table_that_was_made_anew_is_not_taken_for_the_one_before(self):
        self.fake.db.execute(f"INSERT INTO sluice._loaded VALUES ('{TABLE}', '', 1, now())")
        code, said = self.main("load")
        self.assertEqual((code, self.rows()), (1, []))
        self.assertIn("it was made anew, or rolled back", said)
        self.assertEqual(self.main("load", "--whole"), (0, ""))
        self.assertEqual(self.rows(), self.of_files(self.live))

    def test_a_plan_that_a_load_of_the_whole_table_has_overtaken_is_not_kept(self):
        self.assertEqual(self.main("load", states=1), (0, ""))
        write = redshift.Loader._write_rows

        def overtaken(loader, *given):
            redshift.Loader._write_rows = write
            self.assertEqual(self.main("load", "--whole"), (0, ""))
            write(loader, *given)

        # The second one began before the table was compacted.
        for command, states in ((["load"], None), (["load", "--whole"], self.operations.index("replace"))):
            redshift.Loader._write_rows = overtaken
            try:
                self.assertEqual(self.main(*command, states=states), (0, ""))
            finally:
                redshift.Loader._write_rows = write
            self.assertEqual(self.rows(), self.of_files(self.live))
            self.assertEqual(self.main("load"), (0, ""))
            self.assertEqual(self.rows(), self.of_files(self.live))

    def test_an_object_that_cannot_be_copied_is_named_and_the_others_are_loaded(self):
        bad = sorted(self.appended)[0]
        copy = self.fake.copy

        def failing(session, key):
            if key == bad:
                raise ValueError("Value too long for character type")
            copy(session, key)

        self.fake.copy = failing
        code, said = self.main("load")
        self.assertEqual(code, 1)
        self.assertIn(f"1 of {len(self.appended)} objects were not loaded", said)
        self.assertIn(f"`{bad}`: Redshift answers: Value too long for character type", said)
        self.assertEqual(self.rows(), self.of_files(self.appended - {bad}))
        self.fake.copy = copy
        self.assertEqual(self.main("load"), (0, ""))
        self.assertEqual(self.rows(), self.of_files(self.appended))

    def test_a_table_that_redshift_has_with_other_columns_takes_what_it_knows_and_names_what_it_does_not(self):
        self.fake.db.execute(f"ALTER TABLE sluice.{TABLE} ADD COLUMN later VARCHAR")
        self.assertEqual(self.main("load"), (0, ""))
        self.assertEqual(self.rows(), self.of_files(self.appended))
        self.setUp()
        self.fake.db.execute(f"ALTER TABLE sluice.{TABLE} DROP COLUMN status")
        code, said = self.main("load")
        self.assertEqual((code, self.rows()), (1, []))
        self.assertIn("has the columns ['status'], and Redshift's table has not", said)

    def test_views_are_made_anew_and_refreshed_one_statement_at_a_time(self):
        def known(statements):
            [parsed(statement) for statement in statements]
            self.fake.ended["x"] = ({"Status": "FINISHED"}, [])
            return "x"

        self.fake.run = known
        views = redshift.names_of("MATERIALIZED VIEW", "views.sql", "sluice")
        self.assertEqual(self.main("views", "--role", "arn:aws:iam::123456789012:role/sluice"), (0, ""))
        self.assertTrue(all(len(statements) == 1 for statements in self.fake.calls))
        (external, schema), of_views = self.fake.calls[:2], self.fake.calls[2:]
        self.assertIn("DATABASE 'lake'\nIAM_ROLE 'arn:aws:iam::123456789012:role/sluice'", external[0])
        self.assertEqual([len(of_views), schema], [2 * len(views), ['CREATE SCHEMA IF NOT EXISTS "sluice"']])
        self.fake.calls.clear()
        self.assertEqual(self.main("refresh"), (0, ""))
        self.assertEqual(self.fake.calls, [[f'REFRESH MATERIALIZED VIEW "sluice"."{view}"'] for view in views])

    def test_names_that_could_be_more_than_names_are_in_no_statement(self):
        for option, value in [("--schema", 'a"; DROP'), ("--role", "x' CREDENTIALS"), ("--bucket", "s3://a'b"), ("--glue-database", "a'")]:
            with self.subTest(option), contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit):
                redshift.arguments(["load", "--workgroup", "sluice", "--glue-database", "lake", "--bucket", BUCKET, option, value])
        key = lambda path: redshift.Loader._key(
            None, types.SimpleNamespace(location=lambda: "s3://b/lake/t"), "t", types.SimpleNamespace(data_file=types.SimpleNamespace(file_path=path))
        )
        self.assertEqual(key("s3://b/lake/t/data/dt=2026-11-20/g-0.parquet"), "lake/t/data/dt=2026-11-20/g-0.parquet")
        for path in ("s3://b/lake/t/data/a'b.parquet", "s3://b/lake/u/data/a.parquet", "s3://c/lake/t/data/a.parquet", "s3://b/lake/t/data/../a.parquet"):
            with self.subTest(path), self.assertRaises(redshift.Stop):
                key(path)


if __name__ == "__main__":
    what, *folder = sys.argv[1:]
    case = {"sql": Sql, "loads": Loads}[what]
    Loads.folder = folder[0] if folder else None
    result = unittest.TextTestRunner(verbosity=1).run(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    print(result.testsRun)
    sys.exit(not result.wasSuccessful())
