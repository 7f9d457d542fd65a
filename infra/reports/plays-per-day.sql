-- Plays of the game a day: how many, by how many players, how well they went, and how many are doubted.
-- $1 from date = today - 6: First day, UTC.
-- $2 to date = today: Last day, UTC.
-- cache 60 s
SELECT
  CAST(time AS date) AS day,
  count(*) AS plays,
  count(DISTINCT coalesce(userid, sessionid)) AS players,
  round(avg(success_rate), 2) AS mean_success_rate,
  count(suspect) AS doubted
FROM game_result
WHERE time >= CAST($1 AS date) AND time < CAST($2 AS date) + INTERVAL '1' DAY
GROUP BY CAST(time AS date)
ORDER BY day
