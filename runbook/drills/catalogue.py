"""Every drill of the command line, by name: a new one is its file and a line here."""

from runbook.drills import (
    aof_damage,
    backup_restore,
    clock_step,
    disk_full,
    fsync_error,
    limits,
    network,
    power_loss,
    processes,
    restore_time,
    slow_fsync,
    upgrade,
)
from runbook.drills.drill import Drill

DRILLS: dict[str, Drill] = {
    drill.name: drill
    for drill in (
        *processes.DRILLS,
        power_loss.DRILL,
        disk_full.DRILL,
        fsync_error.DRILL,
        slow_fsync.DRILL,
        network.DRILL,
        limits.DRILL,
        backup_restore.DRILL,
        restore_time.DRILL,
        upgrade.DRILL,
        aof_damage.DRILL,
        clock_step.DRILL,
    )
}
