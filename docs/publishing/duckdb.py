# %% delta
import os

import duckdb
from duckdb_extensions import import_extension

tables = duckdb.connect()
for extension in ("avro", "httpfs", "delta", "iceberg"):
    import_extension(extension, con=tables)
    tables.load_extension(extension)
host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
tables.sql(f"""
    CREATE SECRET (
        TYPE s3, KEY_ID '{os.environ["AWS_ACCESS_KEY_ID"]}',
        SECRET '{os.environ["AWS_SECRET_ACCESS_KEY"]}', ENDPOINT '{host}', URL_STYLE 'path',
        USE_SSL false, REGION '{os.environ["AWS_REGION"]}'
    )
""")
asked = """
    SELECT scan_date, count(*), count(error), sum(score) FROM {}
    WHERE scan_date >= '2026-11-22' GROUP BY ALL ORDER BY ALL
"""
delta = tables.sql(asked.format(f"delta_scan('{os.environ['DELTA']}')")).fetchall()

# %% iceberg
iceberg = tables.sql(asked.format(f"iceberg_scan('{os.environ['METADATA']}')")).fetchall()
