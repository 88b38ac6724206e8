"""Starts and drives real clusters of the built binaries, for tests: processes, ports and output, no mocks.

Binaries come from $LOCKSTEP_BIN (a folder with coordinatord, workerd and coordinatorctl), else from
Bazel's runfiles, else from bin/ of the repository.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

# Not resolved: in Bazel's runfiles the files are links into the source tree.
ROOT = pathlib.Path(__file__).absolute().parents[2]
DEMO_MODEL = ROOT / "models" / "demo"
BINARIES = {
    "coordinatord": "coordinator/coordinatord",
    "workerd": "worker/workerd",
    "coordinatorctl": "coordinator/ctl/coordinatorctl",
}
# Generous: CI machines are slow and shared. Nothing waits this long when all is well.
START_SECONDS = 120
_bin_dir = None


def bin_dir():
    """The folder that holds all three binaries, side by side as after tools/setup."""
    global _bin_dir
    if _bin_dir is None:
        if os.environ.get("LOCKSTEP_BIN"):
            _bin_dir = pathlib.Path(os.environ["LOCKSTEP_BIN"])
        elif os.environ.get("TEST_SRCDIR"):
            _bin_dir = pathlib.Path(tempfile.mkdtemp(prefix="bin", dir=os.environ["TEST_TMPDIR"]))
            for name, path in BINARIES.items():
                shutil.copy(ROOT / path, _bin_dir / name)
        else:
            _bin_dir = ROOT / "bin"
    return _bin_dir


def _flags(values):
    """{"max_tokens": 5, "echo": True} as ["--max-tokens=5", "--echo"]."""
    names = {name: "--" + name.replace("_", "-") for name in values}
    return [names[name] if value is True else f"{names[name]}={value}" for name, value in values.items()]


def wait_until(condition, seconds=START_SECONDS, what="condition"):
    """Polls until `condition()` is true; returns its value or raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} not reached within {seconds} s")
        time.sleep(0.01)


def ctl(*arguments, **options):
    """Runs coordinatorctl to its end; the result has returncode, stdout and stderr as text."""
    return subprocess.run([bin_dir() / "coordinatorctl", *map(str, arguments)], text=True,
                          capture_output=True, timeout=options.pop("timeout", START_SECONDS), **options)


class Client:
    """What a test asks of a running coordinator at `address`; `prefix` as in `ip netns exec NAME`."""

    def __init__(self, address, prefix=()):
        self.address = address
        self.prefix = list(prefix)

    def _ctl(self, *arguments, timeout=START_SECONDS):
        return subprocess.run([*self.prefix, bin_dir() / "coordinatorctl", *map(str, arguments)], text=True,
                              capture_output=True, timeout=timeout)

    def status(self):
        """The topology as `status --json` prints it, or None while nothing answers."""
        result = self._ctl("status", "--json", "--coordinator", self.address)
        return json.loads(result.stdout) if result.stdout else None

    def serving(self):
        status = self.status()
        return status if status and status["state"] == "serving" else None

    def generate(self, prompt=None, token_ids=None, **flags):
        """One request to its end: {"token_ids", "text", "logprobs", "prompt_logprobs", "finish"}."""
        arguments = ["generate", "--json", "--coordinator", self.address]
        arguments += _flags(flags)
        if token_ids is not None:
            arguments.append("--token-ids=" + ",".join(map(str, token_ids)))
        else:
            arguments += ["--", prompt]
        result = self._ctl(*arguments, timeout=600)
        if result.returncode != 0:
            raise RuntimeError(result.stderr.strip())
        answer = {"token_ids": [], "text": "", "logprobs": [], "prompt_logprobs": []}
        for line in result.stdout.splitlines():
            for key, value in json.loads(line).items():
                answer[key] = value if key == "finish" else answer[key] + value
        return answer

    def start_generate(self, prompt, **flags):
        """As generate, but returns the running process at once."""
        return subprocess.Popen([*self.prefix, bin_dir() / "coordinatorctl", "generate", "--json", "--coordinator",
                                 self.address, *_flags(flags), "--", prompt], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class Cluster(Client):
    """`coordinatorctl up` as a context: serving when entered, stopped when left."""

    def __init__(self, model=DEMO_MODEL, **flags):
        self.log_dir = tempfile.mkdtemp(prefix="cluster", dir=os.environ.get("TEST_TMPDIR"))
        arguments = _flags(flags)
        self.process = subprocess.Popen(
            [bin_dir() / "coordinatorctl", "up", f"--model={model}", "--listen=127.0.0.1:0",
             f"--log-dir={self.log_dir}", *arguments],
            text=True, stdout=subprocess.PIPE, stderr=open(pathlib.Path(self.log_dir) / "up.log", "w"))
        line = self.process.stdout.readline()
        if not line.startswith("serving on "):
            self.process.wait(START_SECONDS)
            raise RuntimeError("up failed: " + self.log())
        words = line.split()
        super().__init__(words[2])
        # "serving on GRPC and http://HTTP after ...", with --http.
        self.http_address = words[4].removeprefix("http://") if words[3] == "and" else None

    def log(self):
        """What all processes wrote, for a failing test's message."""
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')}"
                         for file in sorted(pathlib.Path(self.log_dir).glob("*.log")))

    def worker_pids(self):
        return {worker["rank"]: worker["pid"] for worker in self.status()["workers"] if "rank" in worker}

    def stop(self):
        """Ctrl-C, as a person would; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
