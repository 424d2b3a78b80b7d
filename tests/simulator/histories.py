"""Random histories: steps that make sense for what a replica shows."""

from __future__ import annotations

import stat
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from tests.simulator.programs import MARK, Component, Programs, SymbolicPath, symbolic
from tests.simulator.steps import SHARED, Setup, Step

if TYPE_CHECKING:
    from tests.simulator.world import World

STEPS_MIN, STEPS_MAX, LONG_STEPS_MAX = 15, 65, 200
HOUR_NS = 3_600_000_000_000
NAME_POOLS: list[list[bytes]] = [
    [b"a", b"b"],
    [b"a", b"b.txt", b"c"],
    [b"a", b"b.txt", b"x" * 251 + b".txt"],
    [b"a", b"a.conflict-A-2", b"a.conflict-B-2"],
]
WEIGHTS = {
    "create": 12, "put": 8, "append": 5, "patch": 4, "cut": 2, "unlink": 12, "rename": 16, "link": 5,
    "save_by_rename": 4, "save_anew": 2, "save_beside_backup": 2, "mkdir": 8, "rmdir": 6, "symlink": 2,
    "mknod": 1, "chmod": 3, "chown": 1, "setxattr": 1, "touch": 1, "remove_tree": 2, "move_all": 2,
    "settle": 12, "open": 5, "write_handle": 8, "fsync_handle": 1, "close_handle": 4, "tick": 2,
    "policy": 1,
}  # fmt: skip
ALWAYS = {"create", "mkdir"}  # else nothing happens
IN_PLACE = {  # what merge policies are about
    b"append": ("append",),
    b"blocks": ("append", "patch", "cut", "open", "write_handle", "close_handle"),
}


class Wish(NamedTuple):
    """What is not to be drawn."""

    replicas: int | None = None
    steps: int | None = None


SWARM = Wish()  # all is drawn


class Generator:
    """Draws steps that make sense for what a replica shows."""

    def __init__(self, seed: int, wish: Wish) -> None:
        self.random = random = Random(seed)
        sites = random.choice([2, 3, 3, 3, 4, 5])
        sites = wish.replicas or sites
        wrong = [0, 0, HOUR_NS, -HOUR_NS, HOUR_NS // 60]
        right = random.random() < 0.5
        skews = tuple(0 if right else random.choice(wrong) for _ in range(sites))
        contents = random.choice([0, 0, 2, 4])
        self.setup = Setup(skews, random.choice([300, 1 << 20]), random.choice([3, 20_000]), contents)
        self.names = random.choice(NAME_POOLS)
        self.network_share = random.choice([0.1, 0.25, 0.25, 0.4, 0.6])
        self.weights: dict[str, float] = dict(WEIGHTS)
        if random.random() < 0.5:  # swarm: some kinds often, some never
            self.weights = {
                kind: weight if kind in ALWAYS else weight * random.choice([0, 1, 3])
                for kind, weight in self.weights.items()
            }
        self.has_crashes = random.random() < 0.4
        long = random.random() < 0.1
        length = random.randint(STEPS_MIN, LONG_STEPS_MAX if long else STEPS_MAX)
        self.length = wish.steps or length
        policy = random.choice([b"", b"", b"", b"append", b"blocks"])
        self.setup = self.setup._replace(policy=policy)
        if policy:
            self.focus(IN_PLACE[policy])

    def focus(self, kinds: tuple[str, ...]) -> None:
        """Few files, of which each replica writes the same one in these ways, seldom in others."""
        self.names, self.network_share = [SHARED, self.names[1]], 0.15
        for kind, weight in self.weights.items():
            self.weights[kind] = WEIGHTS[kind] * 4 if kind in kinds else weight / 8

    def step(self, world: World) -> Step | None:
        random = self.random
        salt = random.getrandbits(30)
        if random.random() < self.network_share:
            return self.network_step(world, salt)
        site = random.randrange(len(world.programs))
        if self.has_crashes and random.random() < 0.04:
            return Step("crash", site, (random.choice(["power", "power", "kill"]),), salt)
        kind = random.choices(list(self.weights), list(self.weights.values()))[0]
        if kind == "settle":
            return self.settling_step(world.programs[site], site, salt)
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

    def settling_step(self, programs: Programs, site: int, salt: int) -> Step | None:
        """What people do with a conflict entry, or with what it stands beside."""
        random = self.random
        seen = programs.look()
        named = symbolic(seen)
        entries = [whole for whole, path in named.items() if isinstance(path[-1], tuple)]
        if not entries:
            return None
        whole = random.choice(entries)
        entry, stem = named[whole], whole.partition(MARK)[0]
        beside = [
            path for p, path in named.items() if p.startswith(stem) and path[-1] == p.rpartition(b"/")[2]
        ]
        bare = random.choice(beside or [(*entry[:-1], random.choice(self.names))])
        away = (*random.choice([(), entry[:-1]]), random.choice(self.names))
        if seen[whole].is_directory:
            ways = [("rename", entry, away), ("move_all", entry, bare), ("remove_tree", entry)]
        else:
            ways = [
                *[("unlink", entry), ("unlink", bare), ("rename", entry, bare), ("rename", entry, away)],
                *[("link", entry, away), ("chmod", entry, 0o640), ("touch", entry, 1), ("append", entry)],
                *[("put", entry), ("save_by_rename", bare), ("save_anew", bare), ("rename", bare, away)],
            ]
        kind, *arguments = random.choice(ways)
        return Step(kind, site, tuple(arguments), salt)

    def arguments(self, programs: Programs, kind: str) -> tuple[object, ...] | None:
        random = self.random
        seen = programs.look()
        named = symbolic(seen)
        paths = list(named.values())
        directories = [path for whole, path in named.items() if seen[whole].is_directory]
        others = [path for whole, path in named.items() if not seen[whole].is_directory]
        files = [path for whole, path in named.items() if stat.S_ISREG(seen[whole].attributes.mode)]
        shallow = [path for path in directories if len(path) < 3]
        name: Component = random.choice(self.names)
        new: SymbolicPath = (*random.choice([(), (), *shallow]), name)
        match kind:
            case "create" | "mkdir" | "mknod":
                return (new,)
            case "symlink":
                return (new,)
            case "put" | "append" | "patch" | "cut" | "open" if files:
                return (random.choice(files),)
            case "save_by_rename" | "save_anew" | "save_beside_backup" if files:
                return (random.choice(files),)
            case "unlink" if others:
                return (random.choice(others),)
            case "rename" if paths:
                target = random.choice(paths) if random.random() < 0.6 else new
                return random.choice(paths), target
            case "link" if others:
                return random.choice(others), new
            case "move_all" if directories:
                return random.choice(directories), random.choice([*directories, *directories, ()])
            case "rmdir" | "remove_tree" if directories:
                return (random.choice(directories),)
            case "chmod" if paths:
                return random.choice(paths), random.choice([0o777, 0o4755, 0o644, 0o600])
            case "chown" if paths:
                return random.choice(paths), random.choice([1000, 1001])
            case "setxattr" if paths:
                return random.choice(paths), random.choice([b"", b"1", b"2"])
            case "touch" if paths:
                return random.choice(paths), random.choice([0, 1, 1 << 60])
            case "policy" if files or directories:
                return random.choice(files + directories), random.choice([b"", b"keep", b"append", b"blocks"])
            case "write_handle" | "fsync_handle" | "close_handle" if programs.handles:
                return ()
            case "tick":
                return ()
        return None
