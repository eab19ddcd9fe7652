"""Partitions between the client and the server, each in a network namespace of its own."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .checks import accounted_for, paid_once, same
from .conftest import AT_ONCE, IDS, Landed, reflecting
from .forker import LIGHT, Child, Forker, forking
from .server import Served, serving

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]
SIDES = ("client", "server")
ADDRESS = "10.231.{}.{}"
"""Of a side's end and of the router's: network 77 or 78, host 1 or 2."""
PATIENCE = (6.0, 4.0)
"""Seconds, with a server that is lost and with a request."""


class Link:
    """The way between two namespaces, through a third one that forwards, or does not."""

    def __init__(self) -> None:
        self.names = {name: f"curate-{name}-{os.getpid()}" for name in (*SIDES, "router")}
        self.server = ADDRESS.format(78, 1)

    def within(self, name: str) -> list[str]:
        """The words that run a command in a namespace."""
        return ["ip", "netns", "exec", self.names[name]]

    def up(self) -> None:
        """As it should be."""
        self._on("client", "ip", "link", "set", "client", "up")
        route = ("default", "via", ADDRESS.format(77, 2))  # gone with the plug
        self._on("client", "ip", "route", "replace", *route)
        self.forward(True)

    def unplug(self) -> None:
        """The client's end is down: its kernel knows."""
        self._on("client", "ip", "link", "set", "client", "down")

    def forward(self, on: bool) -> None:
        """Whether the router lets packets through: if not they vanish, and nobody is told."""
        flag = f"echo {int(on)} > /proc/sys/net/ipv4/ip_forward"
        self._on("router", "sh", "-c", flag)

    def cut(self, how: str) -> None:
        """One of the two ways in which a link goes."""
        self.unplug() if how == "unplugged" else self.forward(False)

    def make(self) -> None:
        """Raises CalledProcessError where the kernel or our rights do not allow it."""
        for name in self.names.values():
            _run("ip", "netns", "add", name)
        for side, network in zip(SIDES, (77, 78), strict=True):
            far = ("peer", "name", f"to-{side}", "netns", self.names["router"])
            _run("ip", "link", "add", side, "netns", self.names[side], "type", "veth", *far)
            for name, end, host in ((side, side, 1), ("router", f"to-{side}", 2)):
                address = f"{ADDRESS.format(network, host)}/24"
                self._on(name, "ip", "address", "add", address, "dev", end)
                self._on(name, "ip", "link", "set", end, "up")
        self._on("server", "ip", "route", "add", "default", "via", ADDRESS.format(78, 2))
        self.up()

    def remove(self) -> None:
        """All namespaces, and the wires with them."""
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def _on(self, name: str, *words: str) -> None:
        _run(*self.within(name), *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture(scope="module")
def made() -> Iterator[Link]:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and ip")
    link = Link()
    try:
        link.make()
    except subprocess.CalledProcessError as error:
        link.remove()
        pytest.skip(f"no network namespaces here: {error.stderr.decode()[:200]}")
    yield link
    link.remove()


@pytest.fixture
def link(made: Link) -> Iterator[Link]:
    made.up()
    yield made
    made.up()


@pytest.fixture(scope="module")
def client(made: Link, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    folder = tmp_path_factory.mktemp("client")
    with forking(LIGHT, folder, within=made.within("client")) as forker:
        yield forker


@pytest.fixture
def far(link: Link, tmp_path: Path) -> Iterator[Served]:
    """The server, on its side of the wire."""
    notes = tmp_path / "asked"
    with serving(notes, host=link.server, slowest=0.2, within=link.within("server")) as served:
        yield served


def finished(child: Child) -> None:
    assert child.wait() == 0, child.said
    assert "Traceback" not in child.said


@pytest.mark.parametrize("how", ["unplugged", "black hole"])
@pytest.mark.parametrize("seconds", [0.5, 3])
def test_a_link_that_comes_back(
    tmp_path: Path, link: Link, client: Forker, far: Served, data: Path, calm: Path,
    how: str, seconds: float, landed: Landed,
) -> None:  # fmt: skip
    """The run goes on by itself; what was on the way arrives late, or is asked once more."""
    run = tmp_path / "run"
    child = client.start(*reflecting(data, run, far.url))
    for number, requests in enumerate((6, 20)):
        far.wait_for(requests)
        link.cut(how)
        landed(how)
        time.sleep(seconds / (number + 1))
        link.up()
    finished(child)
    accounted_for(run, IDS)
    same(run, calm)
    paid_once(run, far, in_flight=2 * AT_ONCE)


def test_a_link_that_loses_packets(
    tmp_path: Path, link: Link, client: Forker, far: Served, data: Path, calm: Path, landed: Landed
) -> None:
    """A fifth of the time nothing comes through."""
    child = client.start(*reflecting(data, tmp_path / "run", far.url))
    while Path(f"/proc/{child.pid}").exists():
        link.forward(False)
        time.sleep(0.05)
        link.forward(True)
        time.sleep(0.2)
        landed("packets lost")
    finished(child)
    same(tmp_path / "run", calm)
    paid_once(tmp_path / "run", far, in_flight=AT_ONCE)


@pytest.mark.parametrize("how", ["unplugged", "black hole"])
def test_a_link_that_stays_away(
    tmp_path: Path, link: Link, client: Forker, far: Served, data: Path, calm: Path,
    how: str, landed: Landed,
) -> None:  # fmt: skip
    """It stops within its patience with one sentence, and goes on when the link is there."""
    run = tmp_path / "run"
    words = reflecting(data, run, far.url)
    child = client.start(*words, patience=PATIENCE)
    far.wait_for(10)
    link.cut(how)
    begun = time.monotonic()
    assert child.wait() == 1, child.said
    landed(how)
    assert time.monotonic() - begun < 60
    (line,) = [line for line in child.said.splitlines() if line.startswith("error: ")]
    assert "run the same command again" in line and "Traceback" not in child.said
    link.up()
    time.sleep(1)  # what the server could not deliver is delivered, to nobody
    finished(client.start(*words))
    accounted_for(run, IDS)
    same(run, calm)
    paid_once(run, far, in_flight=3 * AT_ONCE)


def test_a_server_that_is_connected_and_silent(
    tmp_path: Path, client: Forker, far: Served, data: Path, calm: Path, landed: Landed
) -> None:
    """Requests are given up after their time, and asked again."""
    run = tmp_path / "run"
    child = client.start(*reflecting(data, run, far.url), patience=(60.0, 3.0))
    far.wait_for(8)
    far.silent(True)
    landed("silent")
    time.sleep(4)
    far.silent(False)
    finished(child)
    accounted_for(run, IDS)
    same(run, calm)
    paid_once(run, far, in_flight=3 * AT_ONCE)
