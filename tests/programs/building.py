"""What builds and installs: make, gcc, ccache, cmake, pip, npm, Python's own tests."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.programs.case import Case, Place, environment, run

PIP = ["-m", "pip", "-q", "--disable-pip-version-check", "--no-input"]


def make_project(place: Place) -> None:
    write_project(place.material / "source", place.size(30, 300))


def make_small_project(place: Place) -> None:
    write_project(place.material / "source", place.size(30, 80))


def write_project(source: Path, files: int) -> None:
    """Make a C project: a Makefile whose dependencies the compiler writes, a library, a program."""
    source.mkdir()
    chance = random.Random(1)
    (source / "all.h").write_text("".join(f"int f{number}(int);\n" for number in range(files)))
    for number in range(files):
        body = "".join(f"    x = x * {chance.randrange(3, 99)} + (x >> {line % 7});\n" for line in range(60))
        text = f'#include "all.h"\n#include <stdio.h>\nint f{number}(int x) {{\n{body}    return x;\n}}\n'
        (source / f"f{number}.c").write_text(text)
    calls = "".join(f"    x = f{number}(x);\n" for number in range(files))
    (source / "main.c").write_text(
        '#include "all.h"\n#include <stdio.h>\nint main(void) {\n    int x = 1;\n'
        f'{calls}    printf("%d\\n", x);\n}}\n'
    )
    (source / "Makefile").write_text(
        "OBJECTS := $(patsubst %.c,%.o,$(filter-out main.c,$(wildcard *.c)))\n"
        "CFLAGS := -O1 -fwrapv -MMD\n"
        "program: main.o liball.a\n\t$(CC) -o $@ $^\n"
        "liball.a: $(OBJECTS)\n\trm -f $@\n\t$(AR) rcs $@ $^\n"
        "-include *.d\n"
    )
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.10)\nproject(p C)\nfile(GLOB S f*.c)\n"
        "add_compile_options(-fwrapv)\nadd_library(parts STATIC ${S})\nadd_executable(program main.c)\n"
        "target_link_libraries(program parts)\n"
    )


def copy_project(place: Place) -> Path:
    run("cp", "-r", place.material / "source", place.root / "project")
    return place.root / "project"


def make(place: Place) -> None:
    project = copy_project(place)
    run("make", "-s", "-j4", cwd=project)
    assert "is up to date" in run("make", "-j4", cwd=project), "times are such that make does it again"
    said = run(project / "program")
    # An edit makes one file be compiled anew, that of a header all.
    with (project / "f1.c").open("a") as file:
        file.write("/* more */\n")
    again = run("make", "-j4", cwd=project)
    assert re.findall(r"-c -o (\S+)", again) == ["f1.o"], again
    run("install", "-s", "-m", "755", "program", place.root / "installed", cwd=project)
    assert run(place.root / "installed") == said
    assert_built(place)


def assert_built(place: Place) -> None:
    project = place.root / "project"
    run("make", "--question", cwd=project)  # ends with 1 where there is something to do
    assert re.fullmatch(r"-?\d+\n", run(project / "program"))


def ccache(place: Place) -> None:
    project = copy_project(place)
    settings = {"CCACHE_DIR": os.fspath(place.root / "ccache"), "CC": "ccache gcc"}
    run("make", "-s", "-j4", "CC=ccache gcc", cwd=project, **settings)
    run("find", project, "-name", "*.o", "-delete")
    run("make", "-s", "-j4", "CC=ccache gcc", cwd=project, **settings)
    said = run("ccache", "--print-stats", **settings)
    hits = sum(int(count) for count in re.findall(r"(?m)^(?:direct|preprocessed)_cache_hit\t(\d+)", said))
    assert hits == len(list(project.glob("*.c"))), said


def cmake(place: Place) -> None:
    project = copy_project(place)
    run("cmake", "-S", project, "-B", place.root / "build", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", place.root / "build", "-j4")
    run(place.root / "build" / "program")


def make_wheel(place: Place) -> None:
    """Make a wheel by hand: pip takes nothing from anywhere then."""
    count = place.size(40, 400)
    files = {f"made/m{number}.py": f"value = {number}\n" * 20 for number in range(count)}
    files["made/__init__.py"] = f"from made.m{count - 1} import value\n"
    files["made-1.0.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: made\nVersion: 1.0\n"
    files["made-1.0.dist-info/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files["made-1.0.dist-info/entry_points.txt"] = "[console_scripts]\nmade = made.__main__:main\n"
    files["made/__main__.py"] = "import made\ndef main():\n    print(made.value, made.__file__)\n"
    record = "made-1.0.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in [*files, record])
    with zipfile.ZipFile(place.material / "made-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


def venv_of_a_wheel(place: Place) -> None:
    """A wheel is installed into a virtual environment, used, and removed: nothing of it stays."""
    env = place.root / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", env)
    before = run("find", env, "-print")
    (wheel,) = place.material.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", env / "bin" / "python", *PIP[2:]]
    run(*pip, "install", "--no-index", "--no-cache-dir", wheel)
    said = run(env / "bin" / "made").split()
    assert said[1] == os.fspath(next(env.glob("lib/python*/site-packages/made/__init__.py")))
    run(*pip, "uninstall", "--yes", "made")
    assert sorted(run("find", env, "-print").split()) == sorted(before.split())


LARGE_PACKAGES = ("numpy", "matplotlib", "sympy")


def download_wheels(place: Place) -> None:
    run(sys.executable, *PIP, "download", "-d", place.material, *LARGE_PACKAGES)


def pip_install(place: Place) -> None:
    env = place.root / "venv"
    run(sys.executable, "-m", "venv", env)
    python = env / "bin" / "python"
    run(
        python,
        *PIP,
        "install",
        "--no-index",
        "--find-links",
        place.material,
        "--no-cache-dir",
        *LARGE_PACKAGES,
    )
    run(python, *PIP, "check")
    program = (
        "import numpy, sympy, matplotlib.pyplot as plot\n"
        "plot.plot([1, 2])\nplot.savefig('p.png')\nnumpy.save('a', [1])"
    )
    run(python, "-c", program, cwd=place.root, MPLBACKEND="agg", HOME=os.fspath(place.root))
    assert (place.root / "p.png").read_bytes().startswith(b"\x89PNG")
    run(python, *PIP, "uninstall", "--yes", *LARGE_PACKAGES)


EXTENSION = """
#include <Python.h>
static PyObject *sum(PyObject *self, PyObject *args) {
    long a, b;
    return PyArg_ParseTuple(args, "ll", &a, &b) ? PyLong_FromLong(a + b) : NULL;
}
static PyMethodDef methods[] = {{"sum", sum, METH_VARARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "made", 0, -1, methods};
PyMODINIT_FUNC PyInit_made(void) { return PyModule_Create(&module); }
"""
SETUP = """
from setuptools import Extension, setup
setup(name="made", version="1.0", ext_modules=[Extension("made", ["made.c"])])
"""


def make_extension(place: Place) -> None:
    run(sys.executable, *PIP, "download", "-d", place.material, "setuptools", "wheel")
    (place.material / "made").mkdir()
    (place.material / "made" / "made.c").write_text(EXTENSION)
    (place.material / "made" / "setup.py").write_text(SETUP)


def pip_build(place: Place) -> None:
    """An extension is compiled and linked by its own build system, in temporary directories beside it."""
    env, source, temporary = (place.root / name for name in ("venv", "made", "tmp"))
    run(sys.executable, "-m", "venv", env)
    run("cp", "-r", place.material / "made", source)
    temporary.mkdir()
    install = [env / "bin" / "python", *PIP, "install", "--no-cache-dir", "--no-index"]
    settings = {"TMPDIR": os.fspath(temporary)}
    run(*install, "--find-links", place.material, "setuptools", "wheel", **settings)
    run(*install, "--no-build-isolation", source, **settings)
    program = "import made; print(made.sum(40, 2))"
    assert run(env / "bin" / "python", "-c", program, cwd=place.root / "venv") == "42\n"
    assert os.listdir(temporary) == []


NPM_PACKAGES = ("typescript", "eslint", "express", "webpack")


def fill_npm_cache(place: Place) -> None:
    project = place.material / "project"
    project.mkdir()
    npm(place, project, "init", "--yes")
    npm(place, project, "install", *NPM_PACKAGES)
    run("rm", "-rf", project / "node_modules")


def npm(place: Place, project: Path, *words: str) -> str:
    quiet = ["--no-audit", "--no-fund", "--cache", os.fspath(place.material / "cache")]
    return run("npm", *words, *quiet, cwd=project, HOME=os.fspath(place.material))


def npm_install(place: Place) -> None:
    project = place.root / "project"
    run("cp", "-r", place.material / "project", project)
    npm(place, project, "ci", "--offline")
    (project / "a.ts").write_text("const a: number = 40 + 2; console.log(a)\n")
    run("node_modules/.bin/tsc", "a.ts", cwd=project)
    assert run("node", "a.js", cwd=project) == "42\n"
    npm(place, project, "ls", "--all")
    npm(place, project, "uninstall", "webpack", "--offline")


def compile_all(place: Place) -> None:
    library = Path(os.__file__).parent
    for name in ("",) if place.full else ("json", "email", "asyncio"):
        run("cp", "-rL", library / name, place.root / (name or "lib"))
    run("find", place.root, "-name", "__pycache__", "-prune", "-exec", "rm", "-r", "{}", "+")
    skipped = "lib2to3|bad|site-packages|dist-packages"
    run(sys.executable, "-m", "compileall", "-q", "-j", "2", "-x", skipped, place.root)
    assert "Compiling" not in run(sys.executable, "-m", "compileall", "-x", skipped, place.root)
    if not place.full:
        program = "import json; print(json.__cached__, json.dumps([1]))"
        said = run(sys.executable, "-c", program, PYTHONPATH=os.fspath(place.root)).split()
        assert said[0].startswith(f"{place.root}/json/__pycache__/")


PYTHON = Path("/usr/bin/python3").resolve()  # python3.11 on Debian 12

# Of CPython's own tests those that work on files, in Debian's package.
PYTHON_TESTS = """
test_os test_posix test_shutil test_tempfile test_pathlib test_glob test_fcntl test_mmap test_file test_fileio
test_bufio test_univnewlines test_largefile test_filecmp test_fileinput test_posixpath test_genericpath
test_zipfile test_tarfile test_dbm test_dbm_dumb test_dbm_ndbm test_shelve test_mailbox test_py_compile
test_import test_zipimport test_stat test_logging test_gzip test_bz2 test_lzma test_zipapp test_pkgutil
test_runpy test_unicode_file test_unicode_file_functions test_linecache
"""


def python_tests(place: Place) -> None:
    """What fails in the first place, the host's file system, is not asked of others."""
    command = [PYTHON, "-m", "test", "-j2", "--tempdir", place.root, *PYTHON_TESTS.split()]
    done = subprocess.run(
        command,
        cwd=place.root,
        env={**environment(), "TMPDIR": os.fspath(place.root)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    failed = set(re.findall(r"(?m)^.*\[ *\d+/\d+(?:/\d+)?\] (test_\w+) (?:failed|crashed)", done.stdout))
    assert "Tests result:" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    known = place.material / "failed"
    if not known.exists():
        known.write_text("\n".join(failed))
    new = failed - set(known.read_text().split())
    assert not new, f"{', '.join(sorted(new))}\n{done.stdout[-6000:]}"


CASES = [
    Case("make -j, touch, make again", make, make_project, assert_built),
    Case("make with ccache", ccache, make_small_project, packages=("ccache",), quick=False),
    Case("cmake", cmake, make_small_project, packages=("cmake",), quick=False),
    Case("venv and a wheel", venv_of_a_wheel, make_wheel),
    Case("pip install of numpy, matplotlib, sympy", pip_install, download_wheels, quick=False),
    Case("pip builds an extension", pip_build, make_extension, quick=False),
    Case("npm ci of 4 packages", npm_install, fill_npm_cache, packages=("nodejs", "npm"), quick=False),
    Case("compileall", compile_all),
    Case("Python's own tests of files", python_tests, packages=(f"lib{PYTHON.name}-testsuite",), quick=False),
]
