"""Which paths are addresses on other machines, and how do they stand to the folder that they are
named by?

    s3://BUCKET/videos/a.mp4   gs://...   hf://datasets/OWNER/NAME/a.mp4   https://HOST/a.mp4

No local path looks like one of them: a path that is absolute and tidy has no two slashes in a row.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from seehear.errors import UsageError

SCHEMES = ("s3", "gs", "hf", "https", "http")
"""What an address may begin with."""

_BEGINNINGS = tuple(f"{scheme}://" for scheme in SCHEMES)

LIST_ENDINGS = (".txt",)
"""A named file with this ending is a list of addresses, one a line."""


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Is the path an address on another machine?"""
    text = path if isinstance(path, str) else os.fspath(path)
    return text.startswith(_BEGINNINGS)


def checked(address: str) -> str:
    """An address that a user or a list named, as it is kept.

    Raises:
        UsageError: it has no host, leads upwards, holds a password, or wrong characters.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise UsageError(f"{address!r} is no address: {error}.") from None
    if not parts.netloc or not address.isprintable():
        raise UsageError(
            f"{address!r} is no address. It must look like s3://BUCKET/FOLDER or "
            f"https://HOST/FILE.mp4."
        )
    if "@" in parts.netloc and parts.scheme in ("http", "https"):
        raise UsageError(
            f"The address at {parts.hostname} holds a user name, which would stand in every table. "
            "Put it into ~/.netrc and leave it out of the address."
        )
    if ".." in parts.path.split("/"):
        raise UsageError(f"{address} leads upwards (..). Write the address that it leads to.")
    return address if parts.scheme in ("http", "https") else address.rstrip("/")


def file_name(path: str) -> str:
    """The last part of a path, without what follows ? and # in an address."""
    return (
        urlsplit(path).path.rsplit("/", 1)[-1]
        if path.startswith(("https://", "http://"))
        else path.rsplit("/", 1)[-1]
    )


def absolute(path: str | os.PathLike[str]) -> str:
    """A local path made absolute; an address as it is."""
    text = os.fspath(path)
    return text if is_remote(text) else os.path.abspath(text)  # noqa: PTH100 (links are kept)


def joined(root: str, name: str) -> str:
    """What a name in a table stands for; the inverse of `relative`."""
    if is_remote(name):
        return name
    return f"{root.rstrip('/')}/{name}" if is_remote(root) else os.path.join(root, name)  # noqa: PTH118


def relative(path: str, root: str) -> str:
    """A path as a table holds it: without the root where it is below it."""
    return path.removeprefix(root.rstrip(os.sep) + os.sep)


def common_folder(folders: Sequence[str]) -> str:
    """The address that all of these lie below; "/" where they have no host in common."""
    parts = [folder.rstrip("/").split("/") for folder in folders]  # https: "" host ...
    shared = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return "/".join(shared) if len(shared) > 2 else os.sep
