"""What only Linux has is never needed: the program works where such calls are taken away.

`make check` has mypy look at the same for macOS, by what the standard library's types say.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deadtokens as dt
from deadtokens.writing import write_safetensors

# By the standard library's documentation of Python 3.11 to 3.14, "Availability: Linux" or without
# macOS.
LINUX_ONLY = {
    "os": (
        "copy_file_range eventfd eventfd_read eventfd_write fdatasync getrandom getresgid getresuid"
        " getxattr listxattr memfd_create pidfd_open pipe2 posix_fadvise posix_fallocate"
        " removexattr sched_getaffinity sched_getparam sched_getscheduler sched_rr_get_interval"
        " sched_setaffinity sched_setparam sched_setscheduler setns setresgid setresuid setxattr"
        " splice timerfd_create unshare O_DIRECT O_NOATIME O_PATH O_TMPFILE"
    ),
    "mmap": "MAP_POPULATE MAP_STACK",
    "resource": "prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_SIGPENDING",
    "select": "epoll",
    "signal": "pidfd_send_signal sigtimedwait sigwaitinfo",
    "socket": "AF_NETLINK AF_PACKET AF_VSOCK SOCK_CLOEXEC SOCK_NONBLOCK",
    "fcntl": "F_OFD_SETLK F_OFD_SETLKW F_ADD_SEALS",
}
WITHOUT = f"""
import builtins, importlib, io, json, sys
taken = []
for module, names in {LINUX_ONLY!r}.items():
    held = importlib.import_module(module)
    for name in names.split():
        if hasattr(held, name):
            delattr(held, name)
            taken.append(f"{{module}}.{{name}}")
def refusing(open_file):
    def opened(path, *rest, **named):
        if str(path).startswith(("/proc/", "/sys/")):
            raise FileNotFoundError(2, "macOS has no such file", str(path))
        return open_file(path, *rest, **named)
    return opened
builtins.open = refusing(builtins.open)
io.open = refusing(io.open)
from deadtokens.cli import run
sys.stderr.write(json.dumps(taken) + "\\n")
run()
"""


@pytest.mark.parametrize(
    "line",
    [
        "census builtin:whisper-tiny.en -o {}/census",
        "sweep --centroid {}/centroid.safetensors --sigma 1e-8 --tokens 50 --trials 20"
        " --format float16 -o {}/run",
    ],
)
def test_it_works_without_what_only_linux_has(line: str, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "centroid.safetensors", {"centroid": np.full(20, 1e-3)})
    words = line.format(*[tmp_path] * 2).split()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stderr.splitlines()[0])
    assert len(taken) > 20 or sys.platform != "linux", taken
    assert (tmp_path / "census" / "report.html").exists() or (tmp_path / "run/trials.csv").exists()


def test_no_source_names_what_only_linux_has() -> None:
    """Names looked up on those modules, or files of Linux's kernel."""
    names = {f"{module}.{name}" for module, held in LINUX_ONLY.items() for name in held.split()}
    package = Path(dt.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text()
        used = set(re.findall(r"\b(?:os|mmap|resource|select|signal|socket|fcntl)\.\w+", text))
        assert not used & names, path
        assert not re.search(r"""["'](/proc|/sys)/""", text), path
