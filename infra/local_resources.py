"""Makes what infra/local-env.json names in the emulator at AWS_ENDPOINT_URL, or at the address that it names, where it is not there yet.

`sam local invoke` and `make invoke` run one function alone; this gives it a table, a bucket, a topic, queues and a Glue database to work on.
"""

import json
import pathlib

import boto3

names = {}
for variables in json.loads(pathlib.Path(__file__).with_name("local-env.json").read_text()).values():
    names.update(variables)

tables = boto3.client("dynamodb")
if names["SLUICE_TABLE"] not in tables.list_tables()["TableNames"]:
    tables.create_table(
        TableName=names["SLUICE_TABLE"],
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
buckets = boto3.client("s3")
if names["SLUICE_BUCKET"] not in [bucket["Name"] for bucket in buckets.list_buckets()["Buckets"]]:
    buckets.create_bucket(Bucket=names["SLUICE_BUCKET"])
boto3.client("sns").create_topic(Name=names["SLUICE_TOPIC"].rsplit(":", 1)[1])
for queue in ("SLUICE_COMMIT_QUEUE", "SLUICE_QUARANTINE_QUEUE"):
    boto3.client("sqs").create_queue(QueueName=names[queue].rsplit("/", 1)[1])
catalog = boto3.client("glue")
if names["SLUICE_GLUE_DATABASE"] not in [database["Name"] for database in catalog.get_databases()["DatabaseList"]]:
    catalog.create_database(DatabaseInput={"Name": names["SLUICE_GLUE_DATABASE"]})
secrets = boto3.client("secretsmanager")
if names["SLUICE_ADMIN_KEY_SECRET"] not in [secret["Name"] for secret in secrets.list_secrets()["SecretList"]]:
    secrets.create_secret(Name=names["SLUICE_ADMIN_KEY_SECRET"], SecretString="an-admin-key-for-this-machine-only")
