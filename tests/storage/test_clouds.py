"""The same promises on Google's and Azure's storage, which have no folders either."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import fsspec
import pytest

from pipeline.output.lock import OutputLock
from pipeline.schema import ErrorCode
from pipeline.storage import (
    StorageError,
    create_object,
    delete_objects,
    read_object,
    read_range,
    replace_object,
    stat,
    write_object,
)

from .calls import failure, list_all, listed
from .clouds import Cloud, azure_connection
from .server import serving

MODIFIED = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)


@pytest.fixture(params=["gs", "abfs"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Which of the two."""
    found: str = request.param
    return found


@pytest.fixture
def cloud(scheme: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A store that gcsfs or adlfs is pointed at."""
    store = Cloud()
    with serving(store.google if scheme == "gs" else store.azure) as endpoint:
        options = {"endpoint_url": endpoint, "token": "anon"}
        monkeypatch.setitem(fsspec.config.conf, "gs", options)
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure_connection(endpoint))
        fsspec.get_filesystem_class(scheme).clear_instance_cache()
        yield store
    fsspec.get_filesystem_class(scheme).clear_instance_cache()


def test_parts_are_read_and_other_versions_told(scheme: str, cloud: Cloud) -> None:
    uri = f"{scheme}://images/m/a#b.tar"
    cloud.put("m/a#b.tar", b"0123456789")
    etag = stat(uri).etag
    assert read_range(uri, etag, 2, 3) == b"234"
    assert read_range(uri, etag, 0, 10) == b"0123456789"
    cloud.put("m/a#b.tar", b"9876543210")
    assert failure(read_range, uri, etag, 2, 3).code == ErrorCode.CHANGED


KEYS = ["m/one.png", "m//two.png", "m///three.png", "m/a#b.png", "m/ü x.png"]


def test_keys_with_an_empty_folder_name_are_listed_and_read(scheme: str, cloud: Cloud) -> None:
    """On gs:// the whole listing failed, on abfs:// they were left out in silence."""
    for key in KEYS:
        cloud.put(key, key.encode())
    cloud.put("m2/other.png", b"not below m")
    cloud.put("m/", b"")
    uris = {f"{scheme}://images/{key}": key for key in KEYS}
    found = listed(f"{scheme}://images/m")
    assert set(found) == set(uris)
    for uri, info in found.items():
        assert read_object(uri) == (uris[uri].encode(), info.etag)
        assert info == stat(uri)


def test_last_modified_is_known(scheme: str, cloud: Cloud) -> None:
    """Or --since lets everything through and vacuum deletes nothing: Azure has its own word."""
    cloud.put("m/one.png", b"1")
    (info,) = listed(f"{scheme}://images").values()
    assert info.last_modified == MODIFIED
    assert stat(info.uri).last_modified == MODIFIED


def test_a_single_object_lists_itself_and_nothing_lists_nothing(scheme: str, cloud: Cloud) -> None:
    cloud.put("m/one.png", b"1")
    assert list(listed(f"{scheme}://images/m/one.png")) == [f"{scheme}://images/m/one.png"]
    assert listed(f"{scheme}://images/nothing") == {}


def test_a_prefix_that_may_not_be_listed_is_an_error_that_names_it(
    scheme: str, cloud: Cloud
) -> None:
    cloud.put("m/one.png", b"1")
    cloud.denied = "prefix=m"
    error = failure(list_all, f"{scheme}://images/m")
    assert error.code == ErrorCode.ACCESS_DENIED
    assert f"{scheme}://images/m" in str(error)


def test_conditional_writes_are_the_stores_own(scheme: str, cloud: Cloud) -> None:
    uri = f"{scheme}://images/out/lock.json"
    first = create_object(uri, b"1")
    assert first is not None
    assert create_object(uri, b"another") is None
    second = replace_object(uri, b"22", first)
    assert second is not None
    assert replace_object(uri, b"333", first) is None
    assert replace_object(f"{uri}.missing", b"4", first) is None
    assert read_object(uri) == (b"22", second)


def test_an_output_can_be_locked(scheme: str, cloud: Cloud, told: list[str]) -> None:
    for run_id in ("first", "second"):
        with OutputLock(f"{scheme}://images/out", run_id=run_id) as lock:
            lock.check()
    assert told == []
    assert b'"released": true' in read_object(f"{scheme}://images/out/lock.json")[0]


def test_objects_are_written_and_read(scheme: str, cloud: Cloud) -> None:
    write_object(f"{scheme}://images/out/a.html", b"<p>", "text/html")
    assert cloud.objects["out/a.html"][0] == b"<p>"
    assert failure(read_object, f"{scheme}://images/none").code == ErrorCode.NOT_FOUND


@pytest.mark.parametrize("scheme", ["abfs"])
def test_azure_deletes_and_takes_missing_objects_for_deleted(scheme: str, cloud: Cloud) -> None:
    cloud.put("out/a", b"1")
    delete_objects([f"{scheme}://images/out/a", f"{scheme}://images/out/b"])
    assert cloud.objects == {}


@pytest.mark.parametrize("scheme", ["abfs"])
def test_azures_archive_tier_shows_in_the_listing(scheme: str, cloud: Cloud) -> None:
    for key in ("a.png", "b.png"):
        cloud.put(key, b"x")
    cloud.tiers["a.png"] = "Archive"
    assert [info.archived for info in listed(f"{scheme}://images").values()] == [True, False]


def test_an_account_in_the_uri_is_an_error_with_the_variable() -> None:
    with pytest.raises(StorageError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        list_all("abfss://images@account.dfs.core.windows.net/m")
