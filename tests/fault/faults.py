"""Every fault by its name, and how many of a thousand rounds, and of the suite's hundred, are its."""

from __future__ import annotations

from dataclasses import dataclass

from fault import backup_faults, damage_faults, server_faults, store_faults
from fault.rounds import RunsRound


@dataclass(frozen=True)
class Fault:
    """One fault; `seconds` is what a round of it takes, to begin with."""

    run: RunsRound
    per_thousand: int
    in_suite: int
    seconds: float

    @property
    def what(self) -> str:
        return (self.run.__doc__ or "").partition("\n")[0]


FAULTS = {
    "kill-step": Fault(store_faults.kill_at_a_step, 210, 33, 0.15),
    "small-disk": Fault(store_faults.small_disk, 40, 0, 0.3),
    "enospc": Fault(store_faults.full_disk, 100, 10, 0.2),
    "eio": Fault(store_faults.broken_disk, 150, 8, 0.3),
    "power-cut": Fault(store_faults.power_cut, 210, 18, 0.1),
    "flip": Fault(damage_faults.flipped_bits, 100, 12, 0.2),
    "zero-page": Fault(damage_faults.zeroed_pages, 50, 6, 0.2),
    "cut-off": Fault(damage_faults.cut_off_file, 40, 6, 0.15),
    "server-kill": Fault(server_faults.kill_server, 30, 2, 6.0),
    "server-kill-step": Fault(server_faults.kill_server_at_a_step, 25, 1, 5.0),
    "server-enospc": Fault(server_faults.full_disk_of_server, 18, 0, 5.0),
    "server-eio": Fault(server_faults.broken_disk_of_server, 18, 1, 5.0),
    "server-power-cut": Fault(server_faults.power_cut_of_server, 25, 0, 0.5),
    "server-flip": Fault(damage_faults.damaged_server, 8, 1, 5.0),
    "server-cut-off": Fault(damage_faults.cut_off_below_server, 8, 0, 4.0),
    "backup-kill": Fault(backup_faults.kill_backup, 20, 2, 1.5),
    "restore-kill": Fault(backup_faults.kill_restore, 20, 2, 1.5),
    "clock": Fault(server_faults.wrong_clock, 8, 1, 5.0),
    "two-servers": Fault(server_faults.two_servers, 4, 0, 3.0),
    "sigstop": Fault(server_faults.stopped_server, 4, 1, 65.0),
}
