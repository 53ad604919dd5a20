"""How much memory this process has held."""

from pathlib import Path


def peak_mib() -> float:
    """Return the most memory that this process has held, in MiB (proc(5), VmHWM); getrusage(2) counts who started us, too.

    It is 0 where there is no /proc.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
