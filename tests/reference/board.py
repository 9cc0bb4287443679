"""A board that runs here, for checks by outside programs: a folder of pictures for a camera, and the built-in model."""

import json
import pathlib
import re
import shutil
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PICTURES = ROOT / "examples" / "images"


class Board:
    """`edgeblip run` on a folder; everything of it lies under `work`."""

    def __init__(self, program, work, *settings, page="127.0.0.1:0", arguments=(), pictures=None):
        self.program = str(program)
        self.work = pathlib.Path(work)
        self.camera = self.work / "camera"
        self.store = self.work / "pairs"
        self.camera.mkdir(parents=True, exist_ok=True)
        for name in pictures or sorted(path.name for path in PICTURES.glob("*.png")):
            shutil.copy(PICTURES / name, self.camera)
        self.config = self.work / "edgeblip.toml"
        self.config.write_text(
            f'[camera]\nsource = "folder:camera"\n[store]\nfolder = "pairs"\n[filter]\naudit = 1.0\n'
            + f'[page]\naddress = "{page}"\n'
            + "\n".join(settings)
        )
        self.log = self.work / "log"
        self.arguments = [self.program, "run", "--config", str(self.config), *arguments]
        self.process = None

    def __enter__(self):
        with self.log.open("w") as log, (self.work / "said").open("w") as said:
            self.process = subprocess.Popen(self.arguments, stdout=said, stderr=log, stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            code = self.process.wait(timeout=20)
            assert code == 0, self.log.read_text()

    def until(self, words, times=1, seconds=60):
        """Waits until so many lines of the log have these words."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            lines = [line for line in self.log.read_text().splitlines() if words in line]
            if len(lines) >= times:
                return lines
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"{words!r} was not told {times} times:\n{self.log.read_text()}")

    def address(self):
        """Where the page listens."""
        return re.search(r"address=(\S+)", self.until("the page is there")[0]).group(1)

    def json(self, *arguments):
        """What a command prints, line by line."""
        command = [self.program, *arguments, "--config", str(self.config), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return [json.loads(line) for line in done.stdout.splitlines()]

    def pairs(self, least=0, seconds=20):
        """The pairs in the store, once there are so many."""
        end = time.monotonic() + seconds
        while True:
            pairs = self.json("pairs", "list") if self.store.exists() else []
            if len(pairs) >= least:
                return pairs
            assert time.monotonic() < end, f"{len(pairs)} pairs of {least}"
            time.sleep(0.1)


def wait_for(what, check, seconds=20):
    """Waits until `check` answers with something true, and gives it."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)
