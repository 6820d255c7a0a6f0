# %% scores
from glob import glob

import polars as pl

newest_first = sorted(glob("scores/scores/*/*.parquet"), reverse=True)
table = pl.scan_parquet(newest_first, hive_partitioning=True, missing_columns="insert")
worst = table.sort("score", descending=True, nulls_last=True).head(20).collect()

# %% maps
row = worst.row(0, named=True)
shard = pl.scan_parquet(f"scores/{row['map_file']}").slice(row["map_row"], 1).collect()
found = shard.row(0, named=True)
grid = shard["logit_grid_q8"][0].to_numpy().reshape(found["grid_height"], -1) / 256

# %% told
counts = pl.col("score", "error", "score_logit").count()
nights = table.group_by("scan_date").agg(counts).collect().rows()
grids = {row["uri"]: grid.ravel().tolist()}

# %% plain
columns = pl.scan_parquet("scores/scores/*/*.parquet", hive_partitioning=True).collect().columns

# %% half
half = pl.read_parquet(glob("scores/maps/scan_date=2026-11-21/*")[0])["logit_grid"][0].to_list()
