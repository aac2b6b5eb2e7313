"""Whether a directory is on a network share, where file locks cannot be relied on and SQLite corrupts."""

from __future__ import annotations

import re
from pathlib import Path

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "9p", "fuse.sshfs", "fuse.s3fs"})
_MOUNTS = Path("/proc/self/mounts")


def network_file_system(directory: Path, mounts: str | None = None) -> str | None:
    """The kind of network file system that a directory is on, or None (also where the system does not say).

    ``mounts`` is the text of ``/proc/self/mounts``, read from there unless given; Windows shares show by their path.
    """
    if str(directory).startswith("\\\\"):
        return "Windows share"
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    place = directory.absolute().resolve()
    depth, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1]))
        # Of two mounts on one point the later one is seen.
        if place.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), fields[2]
    return kind if kind in _NETWORK else None
