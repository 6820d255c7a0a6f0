# %% delta
import os

from deltalake import DeltaTable
from pyiceberg.table import StaticTable


def ask(frame):
    rows = frame[frame.scan_date >= "2026-11-22"].groupby("scan_date")
    counts = rows.agg(rows=("uri", "count"), errors=("error", "count"), total=("score", "sum"))
    return counts.reset_index().to_numpy().tolist()


options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
delta = ask(DeltaTable(os.environ["DELTA"], storage_options=options).to_pandas())

# %% iceberg
properties = {
    "s3.access-key-id": os.environ["AWS_ACCESS_KEY_ID"],
    "s3.secret-access-key": os.environ["AWS_SECRET_ACCESS_KEY"],
    "s3.endpoint": os.environ["AWS_ENDPOINT_URL"],
    "s3.region": os.environ["AWS_REGION"],
}
table = StaticTable.from_metadata(os.environ["METADATA"], properties=properties)
iceberg = ask(table.scan(row_filter="scan_date >= '2026-11-22'").to_pandas())
