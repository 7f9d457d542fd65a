-- The lake's Iceberg tables, by the Glue catalog. `redshift.py views` puts in the names.
CREATE EXTERNAL SCHEMA IF NOT EXISTS "{external}"
FROM DATA CATALOG
DATABASE '{database}'
IAM_ROLE '{role}';
