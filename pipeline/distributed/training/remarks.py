"""What is odd about a run's data: looked for once, and kept with the run."""

from __future__ import annotations

import json

from pipeline.datasets.auxiliary import Auxiliary
from pipeline.datasets.remarks import Remarks, remarks_on
from pipeline.schema import ErrorCode
from pipeline.storage import StorageError, read_object, write_object

REMARKS = "remarks.json"


def kept_remarks(data: Auxiliary, output: str) -> Remarks:
    """What the run found when it began, or else finds now.

    Raises:
        StorageError: the output can't be read or written.
    """
    uri = f"{output}/{REMARKS}"
    try:
        return Remarks(**json.loads(read_object(uri)[0]))
    except StorageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise
    found = remarks_on(data)
    write_object(uri, json.dumps(found._asdict(), indent=2).encode())
    return found
