#!/usr/bin/env bash
# deltalake 1.6.6: write_deltalake refuses table properties that DeltaTable.create takes
#
# A table may have properties of its owner beside Delta's own (delta.*); Spark's TBLPROPERTIES take any.
# DeltaTable.create takes them with raise_if_key_not_exists=False. write_deltalake, which makes a table
# with its first rows in one commit, has no such switch and fails on every key that is not Delta's.
#
# Seen:
#   create: {'factory.line': '7'}
#   write_deltalake: Kernel: Generic delta kernel error: Error parsing property 'factory.line':'7'
#
# Expected: the same properties from both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check 'deltalake==1.6.6' 'pyarrow==25.0.1'
venv/bin/python - <<'PYTHON'
import sys

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

rows, own = pa.table({"id": [1]}), {"factory.line": "7"}
DeltaTable.create("created", rows.schema, configuration=own, raise_if_key_not_exists=False)
found = DeltaTable("created").metadata().configuration
print("create:", found)
if found != own:
    sys.exit("changed: DeltaTable.create no longer keeps properties of the owner")
try:
    write_deltalake("written", rows, configuration=own)
except DeltaError as error:
    print("write_deltalake:", error)
else:
    sys.exit("changed: write_deltalake takes properties of the owner")
PYTHON
