"""Where the demo keeps what it makes, and how an earlier run makes room for the next."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tlog.errors import ConfigError

MARKER_NAME = "made-by-the-demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """Names everything under the demo's folder."""

    root: Path

    @property
    def log(self) -> Path:
        """Return the log's own directory, as `tlog init` makes it."""
        return self.root / "log"

    @property
    def policy(self) -> Path:
        """Return the policy file that every member and every judge needs."""
        return self.root / "policy"

    @property
    def config(self) -> Path:
        """Return the server configuration of the demo, on ports that the system chooses."""
        return self.log / "demo.toml"

    @property
    def server_log(self) -> Path:
        """Return the file that the server's own messages go to."""
        return self.root / "server.log"

    def key(self, member_id: str) -> Path:
        """Return the key file of one member."""
        return self.root / "members" / f"{member_id}.key"

    def trusted(self, member_id: str) -> Path:
        """Return the file with the newest checkpoint that one member trusts."""
        return self.root / "members" / f"{member_id}.checkpoint"

    def receipts(self, member_id: str) -> Path:
        """Return the directory of one member's entries and receipts."""
        return self.root / "receipts" / member_id


def make_folder(root: Path) -> Folder:
    """Make the demo's folder anew; an earlier demo's is removed, anything else is left alone.

    Raises ConfigError when the folder exists and no demo made it.
    """
    if root.exists():
        if not (root / MARKER_NAME).is_file():
            raise ConfigError(f"{root} exists and is not from the demo: choose another folder with --folder")
        shutil.rmtree(root)
    (root / "members").mkdir(parents=True, mode=0o700)
    (root / MARKER_NAME).write_text("`make demo` removes this folder when it runs again.\n")
    return Folder(root=root)
