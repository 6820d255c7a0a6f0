# %% delta
import os

import daft
from daft import col
from daft.io import IOConfig, S3Config
from pyiceberg.table import StaticTable

s3 = IOConfig(
    s3=S3Config(
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        key_id=os.environ["AWS_ACCESS_KEY_ID"],
        access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region_name=os.environ["AWS_REGION"],
        use_ssl=False,
    )
)


def ask(table):
    rows = table.where(col("scan_date") >= "2026-11-22").groupby("scan_date")
    counts = rows.agg(col("uri").count(), col("error").count(), col("score").sum())
    return [[*row.values()] for row in counts.sort("scan_date").to_pylist()]


delta = ask(daft.read_deltalake(os.environ["DELTA"], io_config=s3))

# %% iceberg
properties = {
    "s3.access-key-id": os.environ["AWS_ACCESS_KEY_ID"],
    "s3.secret-access-key": os.environ["AWS_SECRET_ACCESS_KEY"],
    "s3.endpoint": os.environ["AWS_ENDPOINT_URL"],
    "s3.region": os.environ["AWS_REGION"],
}
table = StaticTable.from_metadata(os.environ["METADATA"], properties=properties)
iceberg = ask(daft.read_iceberg(table, io_config=s3))
