//! Topic, queues, table and console in one SQLite database.
