"""docker-compose.yml does what it says: its commands, run as processes of this machine.

No container engine is needed: each service gets directories in the place of its volumes, a loopback
address in the place of its host name, and the shell command of its `command`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from elmer.ask import ask
from elmer.directory import StoreDirectory
from elmer.exits import CommandError
from elmer.mounts import unmount
from tests.conftest import mounts_below
from tests.system.compose import Reader, Value
from tests.system.sites import REPOSITORY, SUSPICIOUS, elmer, environment
from tests.system.trees import assert_equal, look
from tests.system.waiting import until, until_equal

PORT = 7400


def services() -> dict[str, dict[str, Value]]:
    read = Reader((REPOSITORY / "docker-compose.yml").read_text()).read()
    assert isinstance(read, dict)
    assert isinstance(read["services"], dict)
    found: dict[str, dict[str, Value]] = {}
    for name, service in read["services"].items():
        assert isinstance(service, dict)
        found[name] = service
    return found


class Container:
    """A service as processes: what its command says, in other places."""

    def __init__(self, name: str, directory: Path, addresses: dict[str, str]) -> None:
        self.name = name
        self.data = directory / f"data-{name}"
        self.mountpoint = directory / f"mnt-{name}"
        self.log = directory / f"{name}.log"
        self.addresses = addresses
        self.tickets = directory / "tickets"
        self.process: subprocess.Popen[bytes] | None = None
        for path in (self.data, self.mountpoint, self.tickets):
            path.mkdir(exist_ok=True)

    def in_our_places(self, script: str) -> str:
        """Return the script with our paths and addresses, as the engine would hand it to sh."""
        script = script.replace("$$", "$")  # an engine's way to write a dollar
        for path, here in (
            ("/data/", f"{self.data}/"),
            ("/mnt/elmer", str(self.mountpoint)),
            ("/tickets/", f"{self.tickets}/"),
        ):
            script = script.replace(path, here)
        script = script.replace("0.0.0.0", self.addresses[self.name])
        for name, address in self.addresses.items():
            script = re.sub(rf"(?<![\w.-]){name}:{PORT}\b", f"{address}:{PORT}", script)
        return script

    def up(self) -> None:
        command = services()[self.name]["command"]
        assert isinstance(command, list)
        shell, options, script = command
        assert (shell, options) == ("sh", "-euc")
        assert isinstance(script, str)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", "-euc", self.in_our_places(script)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**environment(), "PATH": path},
            )

    def wait_healthy(self) -> None:
        def is_healthy() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.log.read_text()}")
            try:
                return bool(ask(self.store, "status")["daemon"]["mountpoint"])
            except CommandError:
                return False

        until(is_healthy, f"service {self.name} is healthy")
        until(self.mountpoint.is_mount, f"service {self.name} is mounted")

    @property
    def store(self) -> StoreDirectory:
        return StoreDirectory(self.data / "store")

    def down(self) -> None:
        """Stop as an engine does: SIGTERM to the first process, which must be the daemon."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(60) == 0, self.log.read_text()
        self.process = None
        assert not mounts_below(self.mountpoint)

    def end(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, 9)
            self.process.wait(60)
        for path in mounts_below(self.mountpoint):
            unmount(Path(path), lazily=True)


@pytest.fixture
def containers(scratch: Path) -> Iterator[dict[str, Container]]:
    # Addresses of this run alone, so that the one port of all services is free.
    network = f"127.{os.getpid() // 250 % 200 + 20}.{os.getpid() % 250}"
    addresses = {name: f"{network}.{number}" for number, name in enumerate(services(), start=1)}
    made = {name: Container(name, scratch, addresses) for name in services()}
    try:
        yield made
    finally:
        for container in made.values():
            container.end()


def test_there_are_three_sites_with_all_that_a_mount_in_a_container_takes():
    found = services()
    assert list(found) == ["a", "b", "c"]
    stores, ports = set(), set()
    for name, service in found.items():
        assert service["devices"] == ["/dev/fuse"]
        assert service["cap_add"] == ["SYS_ADMIN"]
        assert service["security_opt"] == ["apparmor:unconfined"]
        assert service["hostname"] == name
        volumes, published = service["volumes"], service["ports"]
        assert isinstance(volumes, list)
        assert isinstance(published, list)
        stores.update(str(volume) for volume in volumes if str(volume).endswith(":/data"))
        assert "tickets:/tickets" in volumes
        ports.update(str(port) for port in published)
        assert all(re.fullmatch(rf"127\.0\.0\.1:\d+:{PORT}", str(port)) for port in published)
    assert len(stores) == 3
    assert len(ports) == 3


def test_all_volumes_that_are_used_are_declared():
    read = Reader((REPOSITORY / "docker-compose.yml").read_text()).read()
    assert isinstance(read, dict)
    used = {str(volume).split(":")[0] for service in services().values() for volume in service["volumes"]}
    assert used == set(read["volumes"])


def test_the_image_has_what_the_commands_need():
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    for package in ("crdt", "translation", "replication", "elmer"):
        assert f"COPY {package} {package}" in dockerfile
        assert (REPOSITORY / package).is_dir()
    for file in re.findall(r"^COPY (\S+\.\w+) ", dockerfile, re.MULTILINE):
        assert (REPOSITORY / file).is_file()
    for command in ("init", "join", "invite", "mount", "status", "peers"):
        assert "Usage" in elmer(command, "--help")


def test_three_services_come_up_in_any_order_replicate_and_come_back(
    containers: dict[str, Container],
):
    a, b, c = containers.values()
    for container in (c, b, a):  # those that join wait for their tickets
        container.up()
    for container in (a, b, c):
        container.wait_healthy()
    (a.mountpoint / "f").write_bytes(b"written at a")
    until_equal((c.mountpoint / "f").read_bytes, b"written at a", "f at c")
    (c.mountpoint / "g").write_bytes(b"written at c")
    until_equal((b.mountpoint / "g").read_bytes, b"written at c", "g at b")
    until(
        lambda: sum(peer["connected"] for peer in ask(b.store, "status")["peers"]) == 2,
        "b is connected to a and c",
    )

    for container in (a, b, c):
        container.down()
    for container in (b, c):  # a comes last, its peers hold the volume meanwhile
        container.up()
        container.wait_healthy()
    (b.mountpoint / "h").write_bytes(b"written without a")
    until_equal((c.mountpoint / "h").read_bytes, b"written without a", "h at c")
    a.up()
    a.wait_healthy()
    until_equal((a.mountpoint / "h").read_bytes, b"written without a", "h at a")
    until_equal(lambda: len({ask(one.store, "digest")["digest"] for one in (a, b, c)}), 1, "one digest")
    assert_equal(look(a.mountpoint), look(c.mountpoint))
    for container in (a, b, c):
        container.down()
        elmer("fsck", container.data / "store")
        assert not SUSPICIOUS.search(container.log.read_text())
