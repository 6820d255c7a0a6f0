"""The command line of maintenance."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.commands.maintain import Compact, Publish, Vacuum, main, parse
from pipeline.output.lock import OutputLock
from pipeline.results import open_results
from pipeline.storage import write_object
from tests.outputs import scored, write
from tests.storage.odd_s3 import OddS3

ROOT = Path(__file__).parents[2]


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Three small files of one night."""
    for i in range(3):
        write(str(tmp_path), [scored("s3://b/in", i, 0.5)], "2026-01-01", run_id=f"run-{i}")
    return str(tmp_path)


def files(output: str) -> list[Path]:
    return sorted(path for path in Path(output).rglob("*") if path.is_file())


def test_the_flags_are_parsed() -> None:
    compact = parse(["compact", "--output", "out", "--before", "2026-01-02", "--dry-run"])
    assert compact == Compact(output="out", before="2026-01-02", dry_run=True)
    vacuum = parse(["vacuum", "--output", "out", "--delete", "--grace-hours", "1"])
    assert vacuum == Vacuum(output="out", delete=True, grace_hours=1)
    publish = parse(["publish", "--output", "out", "--to", "delta:///a", "--to", "iceberg://c/n/t"])
    assert publish == Publish(output="out", to=("delta:///a", "iceberg://c/n/t"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["compact"], "--output"),
        (["compact", "--output", ""], "--output is empty"),
        (["vacuum", "--output", " "], "--output is empty"),
        (["compact", "--output", "out", "--before", "yesterday"], "is not YYYY-MM-DD"),
        # It sorts after every date of its year: nights under way would count as closed.
        (["compact", "--output", "out", "--before", "20261101"], "is not YYYY-MM-DD"),
        (["vacuum", "--output", "out", "--keep-days", "-1"], "--keep-days"),
        (["publish", "--output", "out"], "--to"),
        (["publish", "--output", "out", "--to", "s3://b/t"], "--to 's3://b/t' is no table"),
        (["publish", "--output", "out", "--to", "delta://s3://u:secret@b/t"], "holds a password"),
        ([], "usage: adaclip maintain compact|vacuum|publish"),
    ],
)
def test_a_wrong_command_line_exits_with_2(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_compact_rewrites_and_its_dry_run_only_says_so(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(output)
    assert main(["compact", "--output", output, "--dry-run"]) == 0
    assert "3 files would become 1" in capsys.readouterr().out
    assert files(output) == before
    assert main(["compact", "--output", output]) == 0
    assert "3 files with 3 rows became 1" in capsys.readouterr().out
    assert len(open_results(output).scores()) == 3


def test_a_group_that_cannot_be_read_is_named_and_the_exit_code_is_1(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for shard in Path(output).glob("maps/*/*.parquet"):
        shard.unlink()
    assert main(["compact", "--output", output]) == 1
    assert "scan_date=2026-01-01: 3 files left as they are" in capsys.readouterr().err


def test_vacuum_lists_and_deletes_only_when_told(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    orphan = Path(output) / "maps" / "scan_date=2026-01-01" / "orphan.parquet"
    write_object(str(orphan), b"maps")
    flags = ["vacuum", "--output", output, "--grace-hours", "0"]
    assert main(flags) == 0
    assert "orphan.parquet" in capsys.readouterr().out
    assert orphan.exists()
    assert main([*flags, "--delete"]) == 0
    assert "deleted: 1 things, 4 B" in capsys.readouterr().out
    assert not orphan.exists()


def test_a_locked_output_is_left_alone(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(output)
    with OutputLock(output, run_id="nightly"):
        assert main(["compact", "--output", output]) == 2
        assert main(["vacuum", "--output", output, "--delete", "--grace-hours", "0"]) == 2
        assert "run nightly" in capsys.readouterr().err
    assert [path for path in files(output) if path.name != "lock.json"] == before


def test_publish_tells_what_it_did_and_needs_no_lock(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"delta://{tmp_path}/table"
    with OutputLock(output, run_id="nightly"):
        assert main(["publish", "--output", output, "--to", uri]) == 0
    told = capsys.readouterr().out
    assert told == f"{uri}: 3 rows came and 0 went, by 3 score files that are new\n"
    assert main(["publish", "--output", output, "--to", uri]) == 0
    assert "0 rows came and 0 went" in capsys.readouterr().out


def test_publish_tells_of_a_catalog_that_is_not_described(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", "--output", output, "--to", "iceberg://no-such/n/t"]) == 2
    told = capsys.readouterr().err
    assert "pyiceberg knows no catalog 'no-such'" in told
    assert "PYICEBERG_CATALOG__NO-SUCH__URI" in told


def test_publish_tells_of_a_table_that_cannot_be_written(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert main(["publish", "--output", output, "--to", f"delta://{tmp_path}/file/table"]) == 1
    told = capsys.readouterr().err
    assert f"delta://{tmp_path}/file/table: " in told
    assert "\x1b" not in told


@pytest.mark.parametrize(
    ("package", "extra", "uri"),
    [("pyiceberg", "iceberg", "iceberg://c/n/t"), ("deltalake", "delta", "delta:///tmp/t")],
)
def test_publish_names_the_extra_that_is_missing(
    output: str, package: str, extra: str, uri: str
) -> None:
    """In a process where it can't be imported, before anything is read."""
    code = (
        "import importlib.util, sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {package!r}: raise ImportError(name)\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda n, *a: None if n == {package!r} else find(n, *a)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from pipeline.commands.maintain import main\n"
        f"sys.exit(main(['publish', '--output', {output!r}, '--to', {uri!r}]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f'needs {package}: pip install "adaclip-pipeline[{extra}]"' in done.stderr


@pytest.mark.parametrize("kind", ["missing", "empty", "images"])
@pytest.mark.parametrize(
    "command", [["compact"], ["compact", "--dry-run"], ["vacuum"], ["vacuum", "--delete"]]
)
def test_a_mistyped_output_got_a_lock_and_ended_with_0(
    tmp_path: Path, command: list[str], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    if kind != "missing":
        folder.mkdir()
    if kind == "images":
        write_object(str(folder / "maps.jpg"), b"no output")
    before = sorted(tmp_path.rglob("*"))
    assert main([*command, "--output", str(folder)]) == 2
    told = capsys.readouterr()
    assert f"{folder} holds neither scores/ nor runs/" in told.err
    assert "no run has written there yet, or --output is mistyped" in told.err
    assert told.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_of_runs_without_scores_is_none_that_was_mistyped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first run was killed before it scored anything."""
    write_object(f"{tmp_path}/runs/20260101T0-x/config.json", b"{}")
    assert main(["vacuum", "--output", str(tmp_path), "--grace-hours", "0"]) == 0
    assert "a run that died" in capsys.readouterr().out


def test_a_mistyped_bucket_or_key_is_told(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compact", "--output", f"s3://{bucket}/mistyped"]) == 2
    assert "neither scores/ nor runs/" in capsys.readouterr().err


def test_a_store_that_holds_no_lock_is_told_of_with_its_remedy(
    point_at: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Swift's s3api refuses conditions."""
    report = {"out/runs/1/report.json": b"{}"}
    with OddS3(refuses={"if-none-match": 501}, objects=report).running() as endpoint:
        point_at(endpoint)
        for name in ("compact", "vacuum --delete"):
            flags = [*name.split(), "--output", "s3://bucket/out"]
            assert main(flags) == 2
            assert "--no-lock" in capsys.readouterr().err
            assert main([*flags, "--no-lock"]) == 0
            assert "no lock is taken" in capsys.readouterr().err
