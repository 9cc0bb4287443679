"""A Python for aarch64 with ONNX Runtime, in a folder of its own, that qemu runs as on a board with a given core.

Debian's packages are unpacked, not installed; the wheels are those of tests/reference/requirements.txt. Needs apt with the
architecture arm64, pip, and libc6:arm64 as .ci/run installs it.
"""

import pathlib
import subprocess
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
REFERENCE = HERE.parent
PACKAGES = [
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libbz2-1.0",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libssl3",
    "libstdc++6",
    "zlib1g",
]
PLATFORMS = ["manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64"]
# Part number, and whether there are dot products. ONNX Runtime asks the system what its processor is, where qemu lets
# it see this machine's: its library for that ends with a segmentation fault.
CORES = {"cortex-a76": ("0xd0b", True), "cortex-a72": ("0xd08", False)}
CPU = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32{more} cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3

"""


def prepare(folder):
    """Fills the folder unless it is there."""
    if folder.exists():
        return
    debian, wheels = folder / "debian", folder / "wheels"
    for path in (debian, wheels):
        path.mkdir(parents=True)
    subprocess.run(["apt-get", "-qq", "download", *(f"{name}:arm64" for name in PACKAGES)], cwd=debian, check=True)
    for package in debian.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
    subprocess.run([*pip, *platforms, "-d", wheels, "-r", REFERENCE / "requirements.txt"], check=True)
    for wheel in wheels.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder / "packages")
    for core, (part, is_newer) in CORES.items():
        more = " atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp" if is_newer else ""
        system = folder / core
        (system / "proc").mkdir(parents=True)
        (system / "lib").mkdir()
        (system / "lib/ld-linux-aarch64.so.1").symlink_to("/lib/ld-linux-aarch64.so.1")
        text = "".join(CPU.format(number=number, part=part, more=more) for number in range(4))
        (system / "proc/cpuinfo").write_text(text)


def command(folder, core, script, *arguments):
    """What emulator.run needs to run a script."""
    root = folder / "root"
    libraries = ":".join(str(root / place / "aarch64-linux-gnu") for place in ("usr/lib", "lib"))
    return {
        "processor": core,
        "prefix": folder / core,
        "command": [root / "usr/bin/python3.11", script, *arguments],
        "environment": [
            f"LD_LIBRARY_PATH={libraries}",
            f"PYTHONHOME={root / 'usr'}",
            f"PYTHONPATH={folder / 'packages'}:{REFERENCE}",
            "OPENBLAS_NUM_THREADS=1",
        ],
    }
