"""Random histories for tests.simulator: steps that make sense for what a replica shows."""

from __future__ import annotations

import stat
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from tests.programs import Component, Programs, SymbolicPath

if TYPE_CHECKING:
    from tests.simulator import World

STEPS_MAX = 90
HOUR_NS = 3_600_000_000_000
NAME_POOLS: list[list[bytes]] = [
    [b"a", b"b"],
    [b"a", b"b.txt", b"c"],
    [b"a", b"b.txt", b"x" * 251 + b".txt"],
    [b"a", b"a.conflict-A-2", b"a.conflict-B-2"],
]
SITE_NAMES = ["A", "B", "C", "D", "berlin-2"]
WEIGHTS = {
    "create": 12, "put": 8, "append": 5, "patch": 4, "cut": 2, "save": 5, "unlink": 12, "rename": 16,
    "link": 5, "mkdir": 8, "rmdir": 6, "symlink": 2, "mknod": 1, "chmod": 3, "chown": 1, "xattr": 1,
    "remove_tree": 3, "open": 5, "write_handle": 8, "fsync_handle": 1, "close_handle": 4, "tick": 2,
}  # fmt: skip
ALWAYS = {"create", "mkdir"}  # else nothing happens


class Step(NamedTuple):
    kind: str
    site: int
    arguments: tuple[object, ...] = ()
    salt: int = 0


class Setup(NamedTuple):
    """What a history is played on."""

    skews_ns: tuple[int, ...]
    slice_bytes: int
    stage_commits_max: int
    contents: int = 0  # how many different ones are written; 0: as good as never the same one


class Generator:
    """Draws steps that make sense for what a replica shows."""

    def __init__(self, seed: int, steps_max: int) -> None:
        self.random = random = Random(seed)
        sites = random.choice([2, 3, 3, 3, 4, 5])
        wrong = [0, 0, HOUR_NS, -HOUR_NS, HOUR_NS // 60]
        right = random.random() < 0.5
        skews = tuple(0 if right else random.choice(wrong) for _ in range(sites))
        contents = random.choice([0, 0, 2, 4])
        self.setup = Setup(skews, random.choice([300, 1 << 20]), random.choice([3, 20_000]), contents)
        self.names = random.choice(NAME_POOLS)
        self.network_share = random.choice([0.1, 0.25, 0.4])
        self.weights = dict(WEIGHTS)
        if random.random() < 0.5:  # swarm: some kinds often, some never
            self.weights = {
                kind: weight if kind in ALWAYS else weight * random.choice([0, 1, 3])
                for kind, weight in self.weights.items()
            }
        self.has_crashes = random.random() < 0.4
        long = random.random() < 0.1
        self.length = random.randint(20, steps_max * 3 if long else steps_max)

    def step(self, world: World) -> Step | None:
        random = self.random
        salt = random.getrandbits(30)
        if random.random() < self.network_share:
            return self.network_step(world, salt)
        site = random.randrange(len(world.programs))
        if self.has_crashes and random.random() < 0.04:
            return Step("crash", site, (random.choice(["power", "power", "kill"]),), salt)
        kind = random.choices(list(self.weights), list(self.weights.values()))[0]
        arguments = self.arguments(world.programs[site], kind)
        return None if arguments is None else Step(kind, site, arguments, salt)

    def network_step(self, world: World, salt: int) -> Step:
        random = self.random
        count = len(world.programs)
        one, other = random.sample(range(count), 2)
        kind = random.choices(
            ["connect", "disconnect", "run", "join", "heal", "sync"], [4, 2, 10, 1, 0.6, 1]
        )[0]
        return Step(kind, one, (other,) if kind in ("connect", "disconnect") else (), salt)

    def arguments(self, programs: Programs, kind: str) -> tuple[object, ...] | None:
        random = self.random
        paths = list(programs.paths())
        directories: list[SymbolicPath] = [path for path, mode in paths if stat.S_ISDIR(mode)]
        others = [path for path, mode in paths if not stat.S_ISDIR(mode)]
        files = [path for path, mode in paths if stat.S_ISREG(mode)]
        shallow = [path for path in directories if len(path) < 3]
        name: Component = random.choice(self.names)
        new: SymbolicPath = (*random.choice([(), (), *shallow]), name)
        match kind:
            case "create" | "mkdir" | "mknod":
                return (new,)
            case "symlink":
                return new, random.choice([b"here", b"there"])
            case "put" | "append" | "patch" | "cut" | "save" | "open" if files:
                return (random.choice(files),)
            case "unlink" if others:
                return (random.choice(others),)
            case "rename" if paths:
                target = random.choice(paths)[0] if random.random() < 0.6 else new
                return random.choice(paths)[0], target
            case "link" if others:
                return random.choice(others), new
            case "rmdir" | "remove_tree" if directories:
                return (random.choice(directories),)
            case "chmod" if paths:
                return random.choice(paths)[0], random.choice([0o777, 0o755, 0o644, 0o600])
            case "chown" if paths:
                return random.choice(paths)[0], random.choice([1000, 1001])
            case "xattr" if paths:
                return random.choice(paths)[0], random.choice([b"", b"1", b"2"])
            case "write_handle" | "fsync_handle" | "close_handle" if programs.handles:
                return ()
            case "tick":
                return ()
        return None
