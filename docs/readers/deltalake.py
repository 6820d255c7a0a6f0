# %% scores
import pyarrow as pa
from deltalake import DeltaTable, Field, QueryBuilder, Schema, convert_to_deltalake

dates = Schema([Field("scan_date", "string")])
convert_to_deltalake("scores/scores", partition_by=dates, partition_strategy="hive")
table = QueryBuilder().register("scores", DeltaTable("scores/scores"))

# %% maps
convert_to_deltalake("scores/maps/scan_date=2026-11-23")  # one night, of which no run was compacted
maps = DeltaTable("scores/maps/scan_date=2026-11-23")
joined = table.register("maps", maps).execute("""
    SELECT uri, score, logit_grid_q8 FROM scores JOIN maps USING (image_id)
""")

# %% told
counted = table.execute("""
    SELECT scan_date, count(score), count(error), count(score_logit) FROM scores GROUP BY scan_date
""")
nights = [list(each.values()) for each in pa.table(counted.read_all()).to_pylist()]
rows = pa.table(joined.read_all()).to_pylist()
grids = [(row["uri"], [step / 256 for step in row["logit_grid_q8"]]) for row in rows]

# %% plain
columns = [field.name for field in DeltaTable("scores/scores").schema().fields]

# %% half
convert_to_deltalake("scores/maps/scan_date=2026-11-21")
old = QueryBuilder().register("old", DeltaTable("scores/maps/scan_date=2026-11-21"))
half = pa.table(old.execute("SELECT logit_grid FROM old").read_all())["logit_grid"][0].as_py()
