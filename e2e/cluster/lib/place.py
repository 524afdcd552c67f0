"""Where a cluster lives, its ports, and its processes."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(os.environ.get("WEFT_CLUSTER_DIR", pathlib.Path.home() / ".cache/weft-cluster"))
BIN = ROOT / "bin"
PREFIX = "weft-cluster-"


class Problem(Exception):
    """What the user is told."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def sh(*command, **options):
    """Runs a command that must succeed; its words are shown when it does not."""
    options = {"capture_output": True, "text": True, "timeout": 120, **options}
    done = subprocess.run([str(word) for word in command], **options)
    if done.returncode:
        raise Problem(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout or '').strip()}")
    return done.stdout


def fixed(tied=False):
    """The place of `up` and of a node."""
    port = int(os.environ.get("WEFT_CLUSTER_PORT", 16443))
    return Place(ROOT / "run", [port, port + 1, port + 2], tied)


def temporary():
    """A place of its own, which ends with this process. Also removes those whose process was killed."""
    for left in pathlib.Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        owner = left.name[len(PREFIX):].split("-")[0]
        if owner.isdigit() and not pathlib.Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
    return Place(pathlib.Path(folder), free_ports(3), tied=True)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Place:
    """A folder with the state of one cluster. `tied`: its processes end with this one, however this one ends."""

    def __init__(self, folder, ports, tied):
        self.folder, self.tied = folder, tied
        self.api, self.etcd, self.peer = ports
        self.kubeconfig = folder / "admin.kubeconfig"

    def make(self):
        self.folder.mkdir(parents=True, exist_ok=True)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, *command, env=None):
        """Starts a process; NAME.log and NAME.pid are in the folder."""
        tie = ["setpriv", "--pdeathsig", "KILL"] if self.tied else []
        with open(self.folder / f"{name}.log", "w") as log:
            process = subprocess.Popen([*tie, *(str(word) for word in command)], stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log, cwd=self.folder, start_new_session=True, env=env)
        (self.folder / f"{name}.pid").write_text(str(process.pid))

    def stop(self, name, patience=3.0):
        """Ends a process that `start` started, politely for so many seconds."""
        file = self.folder / f"{name}.pid"
        if not file.exists():
            return
        pid = int(file.read_text())
        if patience and signalled(pid, signal.SIGTERM):
            eventually(lambda: not runs(pid), patience)
        if signalled(pid, signal.SIGKILL):
            eventually(lambda: not runs(pid), 5)
        file.unlink()

    def wait(self, what, ready, seconds=120):
        if not eventually(ready, seconds):
            raise Problem(f"{what}: not ready within {seconds} s; {self.last_words()}")

    def last_words(self):
        """The logs' last lines: the folder may be gone when somebody looks."""
        lines = []
        for log in sorted(self.folder.glob("*.log")):
            text = log.read_text(errors="replace").splitlines()
            lines += [f"{log.stem}: {line}" for line in text if line.startswith(("E", "F", "Error", "panic"))][-3:]
        return "\n  ".join([f"logs in {self.folder}", *lines])

    def kubectl(self, *arguments, **options):
        command = [BIN / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def signalled(pid, number):
    if not runs(pid):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def runs(pid):
    """Whether there is such a process, and more than its exit code."""
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def eventually(ready, seconds):
    """Asks until it is so, or time is up. A question that fails is a no."""
    end = time.monotonic() + seconds
    while True:
        try:
            if ready():
                return True
        except (OSError, subprocess.SubprocessError):
            pass
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
