# %% scores
import pyarrow as pa
from datafusion import SessionConfig, SessionContext

context = SessionContext(SessionConfig().with_target_partitions(1))  # keeps the order of a shard
dates = [("scan_date", pa.string())]
context.register_parquet("scores", "scores/scores", table_partition_cols=dates)
worst = context.sql("SELECT * FROM scores WHERE score IS NOT NULL ORDER BY score DESC LIMIT 20")

# %% maps
row = worst.to_pylist()[0]
shard = context.read_parquet(f"scores/{row['map_file']}").to_pylist()
found = shard[row["map_row"]]
grid = [step / 256 for step in found["logit_grid_q8"]]  # row by row, grid_height rows

# %% told
counted = context.sql("""
    SELECT scan_date, count(score), count(error), count(score_logit) FROM scores GROUP BY scan_date
""")
nights = [list(each.values()) for each in counted.to_pylist()]
grids = {row["uri"]: grid}

# %% plain
context.register_parquet("plain", "scores/scores", table_partition_cols=dates)
columns = context.table("plain").schema().names

# %% half
half = context.read_parquet("scores/maps/scan_date=2026-11-21").to_pylist()[0]["logit_grid"]
