-- Events by type and hour of their receipt. Those whose own time is more than a week before the first day are left out.
-- $1 from date = today: First day, UTC.
-- $2 to date = today: Last day, UTC.
-- cache 60 s
SELECT
  date_trunc('hour', receivedtime) AS hour,
  type,
  count(*) AS events,
  count(DISTINCT source) AS sources
FROM {every table}
WHERE time >= CAST($1 AS date) - INTERVAL '7' DAY
  AND receivedtime >= CAST($1 AS date) AND receivedtime < CAST($2 AS date) + INTERVAL '1' DAY
GROUP BY date_trunc('hour', receivedtime), type
ORDER BY hour, type
