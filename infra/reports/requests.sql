-- Requests by status and route: how many, how long they took, and how much was answered.
-- $1 from date = today: First day, UTC.
-- $2 to date = today: Last day, UTC.
-- $3 least integer = 1: Leaves out what was asked for less often.
-- cache 60 s
SELECT
  status,
  route,
  count(*) AS requests,
  round(avg(elapsed_ms), 1) AS mean_ms,
  max(elapsed_ms) AS longest_ms,
  sum(bytes) AS bytes
FROM http_access
WHERE time >= CAST($1 AS date) AND time < CAST($2 AS date) + INTERVAL '1' DAY
GROUP BY status, route
HAVING count(*) >= $3
ORDER BY requests DESC, status, route NULLS FIRST
