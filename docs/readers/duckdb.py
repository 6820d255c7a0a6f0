# %% scores
import duckdb

scores = duckdb.sql("""
    FROM read_parquet('scores/scores/*/*.parquet', hive_partitioning = true, union_by_name = true)
""")

# %% maps
maps = duckdb.sql("""
    SELECT *, regexp_extract(filename, 'maps/scan_date=.*') AS map_file,
        file_row_number AS map_row
    FROM read_parquet(
        'scores/maps/*/*.parquet', filename = true, file_row_number = true, union_by_name = true
    )
""")
joined = duckdb.sql("""
    SELECT uri, score, grid_height,
        coalesce(list_transform(logit_grid_q8, lambda step: step / 256), logit_grid) AS grid
    FROM scores JOIN maps USING (map_file, map_row)
    ORDER BY score DESC
""")

# %% told
nights = duckdb.sql("""
    SELECT scan_date, count(score), count(error), count(score_logit) FROM scores GROUP BY scan_date
""").fetchall()
grids = [(uri, grid) for uri, _, _, grid in joined.fetchall()]

# %% plain
columns = duckdb.sql(
    "FROM read_parquet('scores/scores/*/*.parquet', hive_partitioning = true)"
).columns

# %% half
half = duckdb.sql("SELECT logit_grid FROM 'scores/maps/scan_date=2026-11-21/*.parquet'").fetchall()[
    0
][0]
