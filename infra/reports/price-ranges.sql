-- Lowest and highest price of each symbol, and how far they are apart.
-- $1 from date = today: First day, UTC.
-- $2 to date = today: Last day, UTC.
-- $3 symbol text = "": One symbol; all where it is empty.
-- cache 60 s
SELECT
  symbol,
  count(*) AS trades,
  min(price) AS lowest,
  max(price) AS highest,
  max(price) - min(price) AS apart,
  round(100 * CAST(max(price) - min(price) AS double) / nullif(CAST(min(price) AS double), 0), 2) AS apart_pct
FROM quote_trade
WHERE time >= CAST($1 AS date) AND time < CAST($2 AS date) + INTERVAL '1' DAY AND ($3 = '' OR symbol = $3)
GROUP BY symbol
ORDER BY symbol
