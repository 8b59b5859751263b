"""Exclusive creation of a file where several processes of several machines may try at once: exactly one succeeds.

Local file systems and NFS: a hard link. S3 and its like: a conditional PUT (`If-None-Match: *`), by boto3. Elsewhere,
or without boto3: claims beside the file, and after a time to settle the oldest claim has it.
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from emodarts.files import file_lock, sync, temporary_name

_LOG = logging.getLogger(__name__)
SETTLING = 10.0  # s: longer than a PUT may take from its start until others see it
_ATTEMPTS = 5
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_EXISTS = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_UNKNOWN = {"NotImplemented", "501"}
_warned_of_settling: set[str] = set()
_warning = threading.Lock()


def link_new(path: Path, content: bytes) -> bool:
    """Create a local file with this content, durably; False, and nothing changed, where it exists. Raises OSError."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):  # who deletes the file also tidies up what seems to be left of its writers
            return _link_new(path, content)
    return _link_new(path, content)


def _link_new(path: Path, content: bytes) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    try:
        temporary.write_bytes(content)
        sync(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with file_lock(path):
                if path.exists():
                    return False
                os.replace(temporary, path)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def put_new(filesystem: pafs.FileSystem, path: str, content: bytes) -> bool:
    """Create an object with this content; False where it exists. Raises OSError."""
    put = _conditional_put(filesystem) if isinstance(filesystem, pafs.S3FileSystem) else None
    if put is not None:
        created = put(path, content)
        if created is not None:
            return created
    _warn_of_settling(type(filesystem).__name__)
    return _claim(filesystem, path, content)


def _conditional_put(filesystem: pafs.S3FileSystem) -> Callable[[str, bytes], bool | None] | None:
    """PUT unless the object exists: whether it was made, None where the server does not know the condition.

    pyarrow (26) has no conditional PUT; the client of boto3 gets the same address and keys. None without boto3.
    """
    try:
        import botocore.exceptions
    except ImportError:
        return None
    options: dict[str, Any] = filesystem.__reduce__()[1][0]  # what pyarrow pickles: the options that it was opened with
    if options["role_arn"] or options["anonymous"]:
        return None
    client = _client(
        *(options[name] for name in ("access_key", "secret_key", "session_token", "region")), _url(options)
    )

    def put(path: str, content: bytes) -> bool | None:
        bucket, _, key = path.partition("/")
        try:
            client.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
        except botocore.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _EXISTS:
                return False
            if code in _UNKNOWN:
                return None
            raise OSError(f"PUT of {path}: {error}") from error
        except botocore.exceptions.ParamValidationError:  # a boto3 that is too old for the condition
            return None
        except botocore.exceptions.BotoCoreError as error:
            raise OSError(f"PUT of {path}: {error}") from error
        return True

    return put


def _url(options: dict[str, Any]) -> str | None:
    address = options["endpoint_override"]
    return None if not address or "://" in address else f"{options['scheme']}://{address}"


@cache
def _client(access_key: str, secret_key: str, token: str, region: str, url: str | None) -> Any:
    """A client of boto3; without keys those of the environment or of the machine, as pyarrow takes them."""
    import boto3
    from botocore.config import Config

    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key, "aws_session_token": token}
    style = "path" if url else "auto"  # as pyarrow addresses other servers than Amazon's
    # One attempt: Storage tries again.
    config = Config(connect_timeout=10, read_timeout=60, retries={"max_attempts": 1}, s3={"addressing_style": style})
    # A session of its own: the default one is not safe for threads.
    session = boto3.session.Session(**{name: key for name, key in keys.items() if key})
    return session.client("s3", region_name=region or None, endpoint_url=url, config=config)


def _warn_of_settling(kind: str) -> None:
    """Said once a process, by whichever thread comes first."""
    with _warning:
        if kind in _warned_of_settling:
            return
        _warned_of_settling.add(kind)
    _LOG.warning(
        "%s: no conditional PUT is at hand (pip install 'emodarts[aws]' brings boto3; or the store has none), so each "
        "unit's end takes %.0f s more, to be sure that only one counts",
        kind,
        SETTLING,
    )


def _claim(filesystem: pafs.FileSystem, path: str, content: bytes) -> bool:
    """Put a claim beside the file, wait until everybody's can be seen, and write the file if ours is the oldest."""

    def is_there(name: str) -> bool:
        return bool(filesystem.get_file_info(name).type != pafs.FileType.NotFound)

    def put(name: str, body: bytes) -> None:
        with filesystem.open_output_stream(name, compression=None) as stream:
            stream.write(body)

    if is_there(path):
        return False
    claim = temporary_name(f"{path}.claim")
    put(claim, b"")
    try:
        time.sleep(SETTLING)
        folder = path.rpartition("/")[0]
        infos = filesystem.get_file_info(pafs.FileSelector(folder))
        claims = [(i.mtime_ns or 0, i.path) for i in infos if i.path.startswith(f"{path}.claim.")]
        own = next(entry for entry in claims if entry[1].endswith(claim.rpartition("/")[2]))
        # One that is much older is of a process that died before it wrote.
        rivals = [entry for entry in claims if own[0] - entry[0] < 6 * SETTLING * 1e9]
        if is_there(path) or min(rivals) != own:
            return False
        put(path, content)
        return True
    finally:
        filesystem.delete_file(claim)
