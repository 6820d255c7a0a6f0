# %% scores
from glob import glob

import numpy as np
import pandas as pd

newest_first = sorted(glob("scores/scores/*/*.parquet"), reverse=True)
table = pd.read_parquet(newest_first)  # the first file says which columns there are

# %% maps
row = table.sort_values("score", ascending=False).iloc[0]
shard = pd.read_parquet(f"scores/{row.map_file}")
found = shard.iloc[int(row.map_row)]
grid = np.array(found.logit_grid_q8).reshape(found.grid_height, -1) / 256

# %% told
counted = table.groupby("scan_date", observed=True)[["score", "error", "score_logit"]].count()
nights = counted.reset_index().to_numpy().tolist()
grids = {row.uri: grid.ravel().tolist()}

# %% plain
columns = list(pd.read_parquet("scores/scores").columns)

# %% half
half = pd.read_parquet(glob("scores/maps/scan_date=2026-11-21/*")[0]).logit_grid[0].tolist()
