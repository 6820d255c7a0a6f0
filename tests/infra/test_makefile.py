"""make quick: what it leaves out."""

from __future__ import annotations

import re

from tests.conftest import WITH_RAY
from tests.infra.manifests import ROOT


def test_make_quick_starts_no_ray_and_leaves_out_what_there_is() -> None:
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (listed,) = re.findall(r"^NOT_QUICK := (.*)$", text, re.MULTILINE)
    left_out = listed.split()
    with_ray = {path.rstrip("/") for paths in WITH_RAY.values() for path in paths}
    assert with_ray <= {*left_out}
    assert [path for path in left_out if not (ROOT / path).exists()] == []
