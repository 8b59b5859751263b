"""What pyarrow (26) has not of S3: a client for conditional PUTs, and long lists in parallel; by boto3, if at hand."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pyarrow.fs as pafs

_LISTS = 16  # at once
_PARTS = 2  # of a name, each up to a point, by which a long list is divided: system and study


def client_of(filesystem: pafs.FileSystem) -> Any | None:
    """A client of boto3 with the same address and keys; None without boto3, and for what is not S3."""
    if not isinstance(filesystem, pafs.S3FileSystem):
        return None
    try:
        import boto3  # noqa: F401 (whether it is there)
    except ImportError:
        return None
    options: dict[str, Any] = filesystem.__reduce__()[1][0]  # what pyarrow pickles: the options that it was opened with
    if options["role_arn"] or options["anonymous"]:
        return None
    names = ("access_key", "secret_key", "session_token", "region")
    return _client(*(options[name] for name in names), _url(options))


def _url(options: dict[str, Any]) -> str | None:
    address = options["endpoint_override"]
    return None if not address or "://" in address else f"{options['scheme']}://{address}"


@cache
def _client(access_key: str, secret_key: str, token: str, region: str, url: str | None) -> Any:
    """A client of boto3; without keys those of the environment or of the machine, as pyarrow takes them."""
    import boto3
    from botocore.config import Config

    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key, "aws_session_token": token}
    # One attempt: Storage tries again. Other servers than Amazon's are addressed as pyarrow does.
    config = Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"max_attempts": 1},
        s3={"addressing_style": "path" if url else "auto"},
        max_pool_connections=_LISTS,
    )
    # A session of its own: the default one is not safe for threads.
    session = boto3.session.Session(**{name: key for name, key in keys.items() if key})
    return session.client("s3", region_name=region or None, endpoint_url=url, config=config)


def list_names(client: Any, folder: str) -> set[str]:
    """Names of the objects and folders in a folder (`bucket/key`).

    A list of more than a page (a thousand names) is divided by what names begin with, up to their second point, and
    its parts are asked for at once: one page tells where the next one begins, so that they cannot be asked for
    otherwise. Raises OSError.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = folder.partition("/")
    top = f"{key}/"

    def in_folder(objects: list[str]) -> set[str]:
        return {name[len(top) :].partition("/")[0] for name in objects} - {""}

    def pages(prefix: str, delimiter: str) -> Iterator[tuple[list[str], list[str]]]:
        paginator = client.get_paginator("list_objects_v2")
        for page in paginator.paginate(Bucket=bucket, Prefix=prefix, Delimiter=delimiter):
            objects = [entry["Key"] for entry in page.get("Contents", ())]
            yield objects, [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]

    def names_below(prefix: str) -> set[str]:
        return {name for objects, folders in pages(prefix, "/") for name in in_folder(objects + folders)}

    try:
        first = client.list_objects_v2(Bucket=bucket, Prefix=top, Delimiter="/")
        if not first["IsTruncated"]:
            entries = [*first.get("Contents", ()), *first.get("CommonPrefixes", ())]
            return in_folder([entry.get("Key", entry.get("Prefix")) for entry in entries])
        names, prefixes = set[str](), [top]
        for _ in range(_PARTS):
            divided = [page for prefix in prefixes for page in pages(prefix, ".")]
            deeper = [prefix for _, below in divided for prefix in below]
            prefixes = [prefix for prefix in deeper if "/" not in prefix[len(top) :]]
            of_folders = [prefix for prefix in deeper if "/" in prefix[len(top) :]]
            names |= in_folder(of_folders + [name for objects, _ in divided for name in objects])
        with ThreadPoolExecutor(_LISTS) as pool:
            return names.union(*pool.map(names_below, prefixes))
    except (BotoCoreError, ClientError) as error:
        raise OSError(f"list of {folder}: {error}") from error
