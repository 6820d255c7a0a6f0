"""How other libraries' clients reach the S3 that ours reach: same endpoint, same credentials."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

import boto3


@dataclass(frozen=True)
class S3Settings:
    """What botocore found in the environment, the profile or the role; "" is nothing."""

    endpoint: str = ""
    """Of a server that is not Amazon's."""
    region: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def s3_settings() -> S3Settings:
    """The settings of the moment; temporary credentials are valid for some minutes at least."""
    session = boto3.session.Session()
    client = session.client("s3")
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    amazon = host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    credentials = session.get_credentials()
    if credentials is None:
        return S3Settings("" if amazon else client.meta.endpoint_url, client.meta.region_name)
    frozen = credentials.get_frozen_credentials()
    return S3Settings(
        endpoint="" if amazon else client.meta.endpoint_url,
        region=client.meta.region_name or "",
        access_key=frozen.access_key or "",
        secret_key=frozen.secret_key or "",
        token=frozen.token or "",
    )
