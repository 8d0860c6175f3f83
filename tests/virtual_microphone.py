"""A microphone without hardware: a private PulseAudio whose only source hears what is played into its null sink."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "virtual_microphone"
_ALSA = "</usr/share/alsa/alsa.conf>\npcm.!default { type pulse }\nctl.!default { type pulse }\n"


def missing() -> str | None:
    """What to install before a virtual microphone can run here, or None."""
    absent = [tool for tool in ("pulseaudio", "paplay") if shutil.which(tool) is None]
    return f"{' and '.join(absent)} not found: apt-get install pulseaudio libportaudio2" if absent else None


class VirtualMicrophone:
    """A PulseAudio daemon in its own folder; `env` makes a child process hear it as its default microphone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        (folder / "asound.conf").write_text(_ALSA)
        (folder / "client.conf").write_text("autospawn = no\n")
        self.env = os.environ | {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_CLIENTCONFIG": str(folder / "client.conf"),
            "PULSE_SERVER": f"unix:{folder / 'native'}",
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
        }

    def start(self) -> None:
        """Start the daemon and wait until it says, as it would to systemd, that clients may connect."""
        modules = [
            f"module-native-protocol-unix auth-anonymous=1 socket={self._folder / 'native'}",
            "module-null-sink sink_name=speaker rate=48000",
            # Chromium does not list monitors, so a source of its own stands in front of the monitor.
            f"module-remap-source master=speaker.monitor source_name={NAME} "
            f"source_properties=device.description={NAME}",
        ]
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--disallow-exit", "--use-pid-file=no"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            address = self._folder / "ready"
            ready.bind(str(address))
            ready.settimeout(30)
            self._server = subprocess.Popen(
                [*command, *(f"--load={module}" for module in modules)],
                env=self.env | {"NOTIFY_SOCKET": str(address)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            finally:
                address.unlink()
        subprocess.run(["pactl", "set-default-source", NAME], env=self.env, check=True, timeout=30)

    def stop(self) -> None:
        """End the daemon as if the microphone had been pulled out."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def play(self, path: Path | str) -> None:
        """Play a sound file into the microphone and return when all of it has been heard."""
        subprocess.run(["paplay", str(path)], env=self.env, check=True, timeout=600)

    def play_in_background(self, path: Path | str) -> subprocess.Popen[bytes]:
        """Play a sound file into the microphone; the caller waits for the process that is returned."""
        return subprocess.Popen(["paplay", str(path)], env=self.env)


@contextmanager
def virtual_microphone() -> Iterator[VirtualMicrophone]:
    """A running virtual microphone; RuntimeError from `missing()` when this machine lacks PulseAudio."""
    if (reason := missing()) is not None:
        raise RuntimeError(reason)
    with tempfile.TemporaryDirectory(prefix="microphone-") as folder:  # short: socket paths end at 107 characters
        microphone = VirtualMicrophone(Path(folder))
        try:
            microphone.start()
            yield microphone
        finally:
            microphone.stop()
