"""The built wheel is whole: installed apart from the checkout, without a network, it screens a study."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from lungscreen.phantom import make_phantom, sized, write_dicom

CHECKOUT = Path(__file__).resolve().parents[1]
OFFLINE = """
import socket
def refuse(*args, **kwargs):
    raise OSError("the network is off")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""
"""Put into the environment's sitecustomize where the system cannot take the network away."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that holds the wheel, and sees the other packages installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(CHECKOUT, source, ignore=shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    shutil.rmtree(source)
    (wheel,) = folder.glob("lungscreen-*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    # A path in a .pth file is searched last and its own .pth files are not run: the checkout stays out of reach.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "sitecustomize.py").write_text(OFFLINE)
    return python


def test_the_wheel_carries_weights_and_pipelines(python: Path, tmp_path: Path) -> None:
    code = (
        "import lungscreen; from lungscreen.config import packaged_folder;"
        "print(lungscreen.__file__); [print(packaged_folder(name)) for name in ('weights', 'pipelines', 'docs')]"
    )
    shown = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    for line in shown.splitlines():
        assert Path(line).exists()
        assert Path(line).is_relative_to(python.parents[1]), "from the wheel, not from the checkout"


def test_the_wheel_screens_a_study(python: Path, tmp_path: Path) -> None:
    """With no network: in a namespace of its own where that is allowed, else with sockets that refuse."""
    write_dicom(make_phantom(sized("tiny", seed=1, nodules=1)), tmp_path / "study")
    command = [str(python), "-m", "lungscreen.cli.main", "screen", "study", "--out", "out"]
    apart = ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") and subprocess.run([*apart, "true"], capture_output=True, check=False).returncode == 0:
        command = [*apart, *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").glob("studies/*/report.html"))
