# %% delta
import json
import os

import chdb

key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]


def ask(function, uri):
    url = uri.replace("s3://", f"{os.environ['AWS_ENDPOINT_URL']}/")
    rows = chdb.query(
        f"""
        SELECT scan_date, count(), count(error), sum(score)
        FROM {function}('{url}', '{key}', '{secret}')
        WHERE scan_date >= '2026-11-22' GROUP BY 1 ORDER BY 1
        """,
        "JSONCompact",
    )
    return json.loads(rows.data())["data"]


delta = ask("deltaLake", os.environ["DELTA"])

# %% iceberg
iceberg = ask("icebergS3", os.environ["METADATA"].partition("/metadata/")[0])
