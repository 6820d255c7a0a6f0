# %% scores
from glob import glob
from pathlib import Path

import numpy as np
from fastparquet import ParquetFile

newest_first = sorted(glob(f"{Path.cwd()}/scores/scores/*/*.parquet"), reverse=True)
table = ParquetFile(newest_first).to_pandas()  # relative paths fail from the third file on

# %% maps
row = table.sort_values("score", ascending=False).iloc[0]
found = ParquetFile(f"scores/{row.map_file}").to_pandas().iloc[int(row.map_row)]
grid = np.array(found.logit_grid_q8).reshape(found.grid_height, -1) / 256

# %% told
counted = table.groupby("scan_date", observed=True)[["score", "error", "score_logit"]].count()
nights = counted.reset_index().to_numpy().tolist()
grids = {row.uri: grid.ravel().tolist()}

# %% plain
columns = list(ParquetFile("scores/scores").to_pandas().columns)

# %% half
(old,) = glob("scores/maps/scan_date=2026-11-21/*")
half = ParquetFile(old).to_pandas().logit_grid[0]
