"""Networks on another device than the CPU, in a process of its own."""

import subprocess
import sys
from pathlib import Path


def test_networks_train_on_another_device_than_the_cpu():
    """Torch must know the device before the first backward pass of its process."""
    suite = Path(__file__).with_name("gpu_suite.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=suite.parent)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
