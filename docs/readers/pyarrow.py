# %% scores
from glob import glob

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

newest_first = sorted(glob("scores/scores/*/*.parquet"), reverse=True)
table = ds.dataset(newest_first, partitioning="hive").to_table(filter=pc.field("score") > 0.5)

# %% maps
row = table.sort_by([("score", "descending")]).slice(0, 1).to_pylist()[0]
shard = pq.ParquetFile(f"scores/{row['map_file']}").read()
found = shard.slice(row["map_row"], 1).to_pylist()[0]
grid = np.array(found["logit_grid_q8"]).reshape(found["grid_height"], -1) / 256

# %% told
table = ds.dataset(newest_first, partitioning="hive").to_table()
counts = [(name, "count") for name in ("score", "error", "score_logit")]
nights = [list(each.values()) for each in table.group_by("scan_date").aggregate(counts).to_pylist()]
grids = {row["uri"]: grid.ravel().tolist()}

# %% plain
columns = ds.dataset("scores/scores", partitioning="hive").schema.names

# %% half
(old,) = glob("scores/maps/scan_date=2026-11-21/*")
half = pq.read_table(old)["logit_grid"][0].as_py()
