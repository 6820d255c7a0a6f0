# %% scores
from glob import glob

import daft

newest_first = sorted(glob("scores/scores/*/*.parquet"), reverse=True)
table = daft.read_parquet(newest_first, hive_partitioning=True)  # the first file says the columns

# %% maps
row = table.where(daft.col("score") > 0.5).sort("score", desc=True).limit(1).to_pylist()[0]
shard = daft.read_parquet(f"scores/{row['map_file']}").to_pylist()
found = shard[row["map_row"]]
grid = [step / 256 for step in found["logit_grid_q8"]]  # row by row, grid_height rows

# %% told
counts = [daft.col(name).count() for name in ("score", "error", "score_logit")]
nights = [list(each.values()) for each in table.groupby("scan_date").agg(*counts).to_pylist()]
grids = {row["uri"]: grid}

# %% plain
# By a pattern, the first file is another one from one read to the next.
columns = daft.read_parquet(newest_first[::-1], hive_partitioning=True).column_names

# %% half
half = daft.read_parquet("scores/maps/scan_date=2026-11-21/*").to_pylist()[0]["logit_grid"]
