# %% scores
from glob import glob
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog

catalog = SqlCatalog("c", uri="sqlite:///catalog.db", warehouse=f"file://{Path.cwd()}/tables")
catalog.create_namespace("adaclip")
newest_first = sorted(glob("scores/scores/*/*.parquet"), reverse=True)
rows = ds.dataset(newest_first, partitioning="hive").to_table()
for number, field in enumerate(rows.schema):  # Iceberg has no dictionaries
    if pa.types.is_dictionary(field.type):
        rows = rows.set_column(number, field.name, pc.cast(rows[number], pa.string()))
table = catalog.create_table("adaclip.scores", rows.schema)
table.append(rows)

# %% maps
row = table.scan("score > 0.86").to_arrow().to_pylist()[0]
shard = f"{Path.cwd()}/scores/{row['map_file']}"
maps = catalog.create_table("adaclip.maps", pq.read_schema(shard))
maps.add_files([f"file://{shard}"])
found = maps.scan().to_arrow().to_pylist()[row["map_row"]]
grid = [step / 256 for step in found["logit_grid_q8"]]  # row by row, grid_height rows

# %% told
table = table.scan().to_arrow()
counts = [(name, "count") for name in ("score", "error", "score_logit")]
nights = [list(each.values()) for each in table.group_by("scan_date").aggregate(counts).to_pylist()]
grids = {row["uri"]: grid}

# %% plain
added = catalog.create_table("adaclip.added", rows.schema)
added.add_files([f"file://{Path.cwd()}/{file}" for file in newest_first])
columns = added.scan().to_arrow().column_names

# %% half
(old,) = Path("scores/maps/scan_date=2026-11-21").absolute().iterdir()
halves = catalog.create_table("adaclip.halves", pq.read_schema(old))
halves.add_files([f"file://{old}"])
half = halves.scan().to_arrow()["logit_grid"][0].as_py()
