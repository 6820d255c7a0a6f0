# %% delta
import os
import tempfile
from pathlib import Path

from deltalake import DeltaTable
from pyarrow.fs import LocalFileSystem, S3FileSystem, copy_files
from pyiceberg.table import StaticTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
s3 = S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"])


def ask(files):
    """Of the data files that the format's own library names, as Spark reads Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            path = file.removeprefix("s3://")
            copy = Path(folder, *Path(path).parts[-2:])  # scan_date=.../NAME.parquet
            copy.parent.mkdir(exist_ok=True)
            copy_files(path, str(copy), s3, LocalFileSystem())
        rows = spark.read.option("mergeSchema", "true").parquet(folder)
        rows = rows.where("scan_date >= '2026-11-22'").groupBy("scan_date")
        counts = rows.agg(F.count("*"), F.count("error"), F.sum("score")).orderBy("scan_date")
        return [[*row] for row in counts.collect()]


options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
delta = ask(DeltaTable(os.environ["DELTA"], storage_options=options).file_uris())

# %% iceberg
properties = {
    "s3.access-key-id": os.environ["AWS_ACCESS_KEY_ID"],
    "s3.secret-access-key": os.environ["AWS_SECRET_ACCESS_KEY"],
    "s3.endpoint": os.environ["AWS_ENDPOINT_URL"],
    "s3.region": os.environ["AWS_REGION"],
}
table = StaticTable.from_metadata(os.environ["METADATA"], properties=properties)
iceberg = ask(task.file.file_path for task in table.scan().plan_files())
