"""Stage one, data: files that are not what their name says: a pointer in place of a file, a saved web page, half a download."""

from __future__ import annotations

import re
from pathlib import Path

HEAD = 2048
"""Bytes at the beginning that are looked at."""
HDF5 = b"\x89HDF\r\n\x1a\n"
ARCHIVES = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a rar archive"}
END_OF_FILE = {0: 40, 1: 44, 2: 28, 3: 28}
"""Version of an HDF5 superblock → byte at which it says where the file ends (HDF5 file format, II.A; addresses of 8 bytes)."""


def describe_damage(path: Path) -> str:
    """What a file is instead of data, and what to do, as ``but is …; do …`` wants it; empty where nothing is to be seen.

    Only the first 2,048 bytes and the last one are read, so a file that is damaged in its middle is not found here.

    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "mosi.pkl"
    >>> _ = path.write_text("version https://git-lfs.github.com/spec/v1\\noid sha256:4d7a\\nsize 377193000\\n")
    >>> describe_damage(path)
    'a Git-LFS pointer to 377,193,000 bytes; fetch the file itself (git lfs pull)'
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(max(size - 1, 0))
        last = file.read(1)
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not head:
        return "empty; download it again"
    if text.startswith("version https://git-lfs"):
        stated = re.search(r"^size (\d+)", text, re.MULTILINE)
        return f"a Git-LFS pointer{f' to {int(stated[1]):,} bytes' if stated else ''}; fetch the file itself (git lfs pull)"
    if size < HEAD and ("/annex/objects/" in text or text.startswith(".git/annex")):
        return "a git-annex pointer; fetch the file itself (git annex get)"
    if re.match(r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<(!doctype\s+html|html|head|body)\b", text, re.IGNORECASE | re.DOTALL):
        title = re.search(r"<title[^>]*>\s*(.{1,60}?)\s*</title>", text, re.IGNORECASE | re.DOTALL)
        named = f" ({' '.join(title[1].split())})" if title else ""
        return f"a web page{named}, as a login or a download's notice leaves one; download the file itself"
    if head.startswith(HDF5) and (whole := read_end_of_hdf5(head)) > size:
        return f"cut off: {size:,} bytes of {whole:,}; download it again"
    if re.match(rb"\x80[\x02-\x05]", head) and last != b".":
        return f"cut off: a pickle ends in a full stop, and its {size:,} bytes do not; download it again"
    return ""


def describe_archive(path: Path) -> str:
    """What kind of archive a file is; empty where it is none."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return next((what for magic, what in ARCHIVES.items() if head.startswith(magic)), "")


def read_end_of_hdf5(head: bytes) -> int:
    """Where an HDF5 file says that it ends, 0 where its beginning does not tell (another version, addresses of another size)."""
    version = head[8] if len(head) > 8 else -1
    sizes = head[9] if version in (2, 3) and len(head) > 9 else head[13] if len(head) > 13 else 0
    at = END_OF_FILE.get(version, len(head))
    return int.from_bytes(head[at : at + 8], "little") if sizes == 8 and len(head) >= at + 8 else 0
