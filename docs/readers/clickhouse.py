# %% scores
import json

import chdb

table = chdb.query("""
    SELECT scan_date, count(score), count(error), count(score_logit)
    FROM file('scores/scores/*/*.parquet', Parquet)
    GROUP BY scan_date
    SETTINGS schema_inference_mode = 'union'
""")

# %% maps
joined = chdb.query(
    """
    WITH maps AS (
        SELECT *, substring(_path, position(_path, 'maps/scan_date=')) AS map_file,
            toInt32(_row_number) AS map_row
        FROM file('scores/maps/*/*.parquet', Parquet)
    )
    SELECT uri, score,
        if(empty(logit_grid_q8), logit_grid, arrayMap(step -> step / 256, logit_grid_q8)) AS grid
    FROM file('scores/scores/*/*.parquet', Parquet) AS scores
    JOIN maps USING (map_file, map_row)
    ORDER BY score DESC
    SETTINGS schema_inference_mode = 'union'
    """,
    "JSON",
)
rows = json.loads(str(joined))["data"]

# %% told
nights = [line.split(",") for line in str(table).replace('"', "").splitlines()]
grids = [(row["uri"], row["grid"]) for row in rows]

# %% plain
# By a star, the first file is whichever the file system lists first.
described = chdb.query(
    "DESCRIBE file('scores/scores/scan_date=2026-11-{21,22,23}/*.parquet', Parquet)"
)
columns = [line.split(",")[0].strip('"') for line in str(described).splitlines()]

# %% half
answer = chdb.query(
    """
    SELECT arrayMap(logit -> toFloat64(logit), logit_grid) AS grid
    FROM file('scores/maps/scan_date=2026-11-21/*.parquet', Parquet)
    """,
    "JSON",
)
half = json.loads(str(answer))["data"][0]["grid"]
