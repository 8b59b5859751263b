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
from pathlib import Path

import pyarrow.fs as pafs

from emodarts import s3
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

    pyarrow (26) has no conditional PUT. None without boto3.
    """
    client = s3.client_of(filesystem)
    if client is None:
        return None
    import botocore.exceptions

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
