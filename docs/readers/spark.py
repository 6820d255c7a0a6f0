# %% scores
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.master("local[1]").getOrCreate()
table = spark.read.option("mergeSchema", True).parquet("scores/scores")

# %% maps
days = ["scores/maps/scan_date=2026-11-22", "scores/maps/scan_date=2026-11-23"]
maps = spark.read.parquet(*days).select(
    F.regexp_extract("_metadata.file_path", "maps/scan_date=.*", 0).alias("map_file"),
    F.col("_metadata.row_index").alias("map_row"),
    "grid_height",
    F.transform("logit_grid_q8", lambda step: step / 256).alias("grid"),
)
joined = table.join(maps, ["map_file", "map_row"]).orderBy(F.desc("score"))

# %% told
counts = [F.count(name) for name in ("score", "error", "score_logit")]
nights = table.groupBy("scan_date").agg(*counts).collect()
grids = [(row.uri, row.grid) for row in joined.collect()]

# %% plain
columns = spark.read.parquet("scores/scores").columns

# %% half
half = spark.read.parquet("scores/maps/scan_date=2026-11-21").first().logit_grid
