# %% delta
import os

import polars as pl

options = {
    "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
    "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
    "aws_endpoint_url": os.environ["AWS_ENDPOINT_URL"],
    "aws_region": os.environ["AWS_REGION"],
    "aws_allow_http": "true",
}


def ask(table):
    rows = table.filter(pl.col("scan_date") >= "2026-11-22").group_by("scan_date")
    counts = rows.agg(pl.len(), pl.col("error").count(), pl.col("score").sum())
    return counts.sort("scan_date").collect().rows()


delta = ask(pl.scan_delta(os.environ["DELTA"], storage_options=options))

# %% iceberg
options = {
    "s3.access-key-id": os.environ["AWS_ACCESS_KEY_ID"],
    "s3.secret-access-key": os.environ["AWS_SECRET_ACCESS_KEY"],
    "s3.endpoint": os.environ["AWS_ENDPOINT_URL"],
    "s3.region": os.environ["AWS_REGION"],
}
iceberg = ask(pl.scan_iceberg(os.environ["METADATA"], storage_options=options))
