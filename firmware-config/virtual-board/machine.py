"""A virtual board: qemu-system-aarch64 with a disk of ours, driven over its console and over QMP."""

import json
import pathlib
import re
import socket
import subprocess
import time


class Failed(Exception):
    """What was to be is not."""


class Machine:
    """A machine that runs. Nothing that it writes stays on its disk's file."""

    def __init__(self, folder, work, *, arguments):
        self.work = pathlib.Path(work)
        self.places = {name: self.work / name for name in ["console", "qmp", "qemu.log"]}
        folder = pathlib.Path(folder)
        command = [
            "qemu-system-aarch64", "-nodefaults", "-display", "none", "-no-reboot", "-kernel", folder / "kernel",
            "-initrd", folder / "initrd", "-qmp", f"unix:{self.places['qmp']},server=on,wait=off", *arguments,
            "-chardev", f"socket,id=console,path={self.places['console']},server=on,wait=off", "-serial", "chardev:console",
        ]
        with self.places["qemu.log"].open("w") as log:
            self.process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.console = self.connect("console")
        self.heard = b""

    def connect(self, name):
        end = time.monotonic() + 20
        while time.monotonic() < end and self.process.poll() is None:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.places[name]))
                return connection
            except OSError:
                connection.close()
                time.sleep(0.1)
        raise Failed(f"qemu does not start: {self.places['qemu.log'].read_text()}")

    def until(self, pattern, seconds):
        """Waits until the console says something, and gives what it said before and the match."""
        end = time.monotonic() + seconds
        while True:
            match = re.search(pattern, self.heard, re.DOTALL)
            if match:
                before = self.heard[: match.start()]
                self.heard = self.heard[match.end() :]
                return before.decode(errors="replace"), match
            if time.monotonic() > end:
                raise Failed(f"the console does not say {pattern} within {seconds} s:\n{self.heard[-3000:].decode(errors='replace')}")
            self.console.settimeout(1)
            try:
                more = self.console.recv(65536)
            except TimeoutError:
                continue
            if not more:
                raise Failed(f"the machine is gone: {self.places['qemu.log'].read_text()}")
            self.heard += more

    def log_in(self, seconds=300):
        """Waits for the console on which root is logged in."""
        self.until(rb"root@board:[^#]*# ", seconds)
        self.console.sendall(b"stty -echo; export PS1= PS2= TERM=dumb PAGER=cat SYSTEMD_COLORS=0; bind 'set enable-bracketed-paste off'\n")
        self.console.sendall(b"echo rea''dy\n")
        self.until(rb"\nready\r?\n", 30)

    def run(self, command, seconds=60):
        """Runs a command as root: its exit code, and what it said."""
        mark = f"done{time.monotonic_ns()}"
        self.console.sendall(f"{{ {command}\n}} </dev/null 2>&1; echo \"{mark[:4]}\"\"{mark[4:]} $?\"\n".encode())
        said, match = self.until(rf"{mark} (\d+)\r?\n".encode(), seconds)
        return int(match.group(1)), said.replace("\r", "").strip()

    def get(self, command, seconds=60):
        """What a command says, which is to succeed."""
        code, said = self.run(command, seconds)
        if code != 0:
            raise Failed(f"{command}: exit code {code}: {said}")
        return said

    def wait_for(self, what, command, seconds=120, accept=bool):
        """Runs a command until what it says is accepted, and gives that."""
        end = time.monotonic() + seconds
        while True:
            code, said = self.run(command)
            if code == 0 and accept(said):
                return said
            if time.monotonic() > end:
                raise Failed(f"{what}: not within {seconds} s; {command} says, with exit code {code}: {said}")
            time.sleep(1)

    def qmp(self, command, **arguments):
        """One command to the machine itself, and its answer."""
        connection = self.connect("qmp")
        with connection, connection.makefile("rw") as stream:
            stream.readline()
            for request in [{"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}]:
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
                while "event" in answer:
                    answer = json.loads(stream.readline())
                if "error" in answer:
                    raise Failed(f"{request}: {answer['error']}")
            return answer["return"]

    def register(self, address):
        """A device's register of 32 bits, as the machine has it, whatever its system believes."""
        said = self.qmp("human-monitor-command", **{"command-line": f"xp /1xw {address:#x}"})
        return int(said.split(":")[1], 16)

    def stop(self):
        """Takes the power away."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.console.close()


def virt(folder, work, core):
    """The machine `virt`: pins of a PL061, a disk by virtio."""
    arguments = [
        "-M", "virt,gic-version=3", "-cpu", core, "-smp", "2", "-m", "1024", "-accel", "tcg,thread=multi",
        "-append", "root=LABEL=board rw console=ttyAMA0 loglevel=3",
        "-drive", f"file={pathlib.Path(folder) / 'disk.img'},format=raw,if=virtio,snapshot=on",
    ]
    return Machine(folder, work, arguments=arguments)


def raspi3b(folder, work):
    """The machine `raspi3b`: a Raspberry Pi 3B+ as far as qemu models it.

    Its first UART is the Bluetooth chip's; the second is the console. Debian's kernel has no /dev/gpiomem, and lets
    nobody at the registers of a device that it drives itself but where `iomem=relaxed` says so.
    """
    folder = pathlib.Path(folder)
    arguments = [
        "-M", "raspi3b", "-accel", "tcg,thread=multi", "-dtb", folder / "bcm2837-rpi-3-b-plus.dtb",
        "-append", "root=LABEL=board rw rootwait iomem=relaxed console=ttyS1,115200 loglevel=3",
        "-drive", f"file={folder / 'disk.img'},format=raw,if=sd,snapshot=on", "-serial", "null",
    ]
    return Machine(folder, work, arguments=arguments)
