"""Mutation testing of the ledger: breaks it in many small ways, and lists the breaks that no test notices.

    python -m bench.mutation                          all of domain/ledger, at most ten minutes on one core
    python -m bench.mutation leases --minutes 3       one module

Each mutant is one change of one line's meaning (a comparison, a sign, a condition, a number, a statement left out). It
lives in a child process only: the import system is given the changed code, no file is touched. The child runs the
module's tests, cheapest first, until one fails: then the mutant is killed. What takes far longer than the tests
without a change counts as killed too. Mutants are tried in random order (`--seed`), so that a run that ends early is a
fair sample. Exit code 1: the score, killed over tried, is below `--least`.
"""

from __future__ import annotations

import argparse
import ast
import importlib.machinery
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "packages/core/apikeyrouter"
LEDGER = ("tests/unit/test_ledger.py", "tests/unit/test_account_books.py")
MACHINES = ("tests/stateful/test_ledger_machine.py", "tests/stateful/test_shared_ledger_machine.py")
TESTS = {
    "accounts": (*LEDGER, "tests/unit/test_leases.py", *MACHINES),
    "holds": (*LEDGER, "tests/unit/test_leases.py", *MACHINES),
    "ledger": (*LEDGER, *MACHINES),
    "lease_rules": (
        "tests/unit/test_lease_grants.py",
        "tests/property/test_lease_rules.py",
        "tests/unit/test_leases.py",
        MACHINES[1],
    ),
    "leases": ("tests/unit/test_leases.py", MACHINES[1]),
}
"""Per module of domain/ledger the tests that must notice, cheapest first."""

PRELOADED = ("pydantic", "msgspec", "hypothesis.stateful", "apikeyrouter.domain.models.budget", "pytest")
"""Imported once, before any child: nothing of it imports what is changed."""

SLOWER_MAX = 4.0
_COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_SAYS_NOTHING = {"__repr__", "__slots__", "__all__"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change. `apply` makes it in the tree of its module, for good."""

    module: str
    line: int
    what: str
    apply: Callable[[], None]


def mutants_of(module: str, tree: ast.Module) -> list[Mutant]:
    """Every change that we know of, in the order of the source."""
    found = []
    for node in _meaning(tree):
        for what, apply in [*_of_expression(node), *_of_statements(node)]:
            found.append(Mutant(module, getattr(node, "lineno", 0), what, apply))
    return found


def _meaning(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that do something: no annotations, messages, texts or names for people."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "args") and not isinstance(node, ast.Call):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_silent(child):
                yield from _meaning(child)


def _is_silent(node: ast.AST) -> bool:
    match node:
        case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return True
        case ast.keyword(arg="strict"):  # of zip: lengths are equal, whoever checks it
            return True
        case ast.FunctionDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
            return name in _SAYS_NOTHING
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Expr(value=ast.Constant()):
            return True
    return False


def _of_expression(node: ast.AST) -> Iterator[tuple[str, Callable[[], None]]]:
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                new = _COMPARE[type(operator)]
                yield f"{_short(node)}: {new.__name__}", _put(node.ops, place, new())
        case ast.BinOp() | ast.AugAssign() if type(node.op) in _ARITHMETIC:
            new_op = _ARITHMETIC[type(node.op)]
            yield f"{_short(node)}: {new_op.__name__}", _set(node, "op", new_op())
        case ast.BoolOp():
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield f"{_short(node)}: {other.__name__}", _set(node, "op", other())
        case ast.UnaryOp(op=ast.USub()):
            yield f"{_short(node)}: without the sign", _set(node, "op", ast.UAdd())
        case ast.Constant(value=bool()):
            yield f"{_short(node)}: {not node.value}", _set(node, "value", not node.value)
        case ast.Constant(value=int(number)):
            yield f"{_short(node)}: {number + 1}", _set(node, "value", number + 1)
        case ast.If() | ast.While() | ast.IfExp():
            yield f"if {_short(node.test)}: not", _set(node, "test", ast.UnaryOp(ast.Not(), node.test))
        case ast.comprehension():
            for place, test in enumerate(node.ifs):
                yield f"for ... if {_short(test)}: not", _put(node.ifs, place, ast.UnaryOp(ast.Not(), test))
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield f"{_short(node)}: None", _set(node, "value", ast.Constant(None))
        case ast.Call(func=ast.Name(id=name)) if name in _CALLS:
            yield f"{_short(node)}: {_CALLS[name]}", _set(node.func, "id", _CALLS[name])


def _of_statements(node: ast.AST) -> Iterator[tuple[str, Callable[[], None]]]:
    """Leaves out one statement of a body."""
    if isinstance(node, ast.Module | ast.ClassDef):
        return
    for name in ("body", "orelse", "finalbody"):
        body = getattr(node, name, None)
        for place, statement in enumerate(body if isinstance(body, list) else []):
            left_out = isinstance(statement, ast.Assign | ast.AugAssign | ast.Continue | ast.Break)
            left_out |= isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            if left_out:
                yield f"line {statement.lineno}, {_short(statement)}: left out", _put(body, place, ast.Pass())


def _set(node: ast.AST, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(node, name, value)


def _put(nodes: Any, place: int, value: ast.AST) -> Callable[[], None]:
    return lambda: nodes.__setitem__(place, value)


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 70 else text[:67] + "..."


# -- children ---------------------------------------------------------------------------------------------------------


def run_tests(module: str, code: CodeType, tests: tuple[str, ...], limit_s: float) -> tuple[bool, float]:
    """Whether the tests pass, in a child, with `code` as the module; and how long that took."""
    started_s = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        _child(f"apikeyrouter.domain.ledger.{module}", code, tests)
    watch = os.pidfd_open(pid)
    try:
        if not select.select([watch], [], [], limit_s)[0]:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(watch)
    _, status = os.waitpid(pid, 0)
    return status == 0, time.perf_counter() - started_s


def _child(name: str, code: CodeType, tests: tuple[str, ...]) -> None:
    status = 99
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        original = importlib.machinery.SourceFileLoader.get_code
        importlib.machinery.SourceFileLoader.get_code = (  # type: ignore[method-assign]
            lambda self, fullname: code if fullname == name else original(self, fullname)
        )
        import pytest
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutation", database=None, derandomize=True, phases=[Phase.explicit, Phase.generate], deadline=None
        )
        settings.load_profile("mutation")
        status = int(pytest.main(["-x", "-q", "--no-header", "--tb=no", "--assert=plain", "-p", "no:xdist", *tests]))
    finally:
        os._exit(status)


# -- the run ----------------------------------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    """Tries mutants until all are tried or the time is over; prints survivors and the score."""
    parser = argparse.ArgumentParser(prog="python -m bench.mutation", description="Mutation testing of the ledger.")
    parser.add_argument("modules", nargs="*", choices=[[], *TESTS], help="default: all")
    parser.add_argument("--minutes", type=float, default=9.5, help="the longest run (default 9.5)")
    parser.add_argument("--least", type=float, default=0.9, help="the score that must be reached (default 0.9)")
    parser.add_argument("--seed", type=int, default=1, help="order of the mutants")
    parser.add_argument("--lines", default="", help="only lines FROM-TO of the module")
    options = parser.parse_args(argv)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in PRELOADED:
        importlib.import_module(name)
    modules = options.modules or list(TESTS)
    assert not [one for one in modules if f"apikeyrouter.domain.ledger.{one}" in sys.modules], "preloaded too much"
    ends_s = time.perf_counter() + options.minutes * 60

    mutants: list[Mutant] = []
    trees, limits_s = {}, {}
    for module in modules:
        path = PACKAGE / "domain/ledger" / f"{module}.py"
        trees[module] = ast.parse(path.read_text(), str(path))
        passed, took_s = run_tests(module, _compile(trees[module]), TESTS[module], 300)
        if not passed:
            print(f"the tests of {module} fail without any change: {' '.join(TESTS[module])}")
            return 2
        limits_s[module] = 5 + took_s * SLOWER_MAX
        mutants += mutants_of(module, trees[module])
    if options.lines:
        first, _, last = options.lines.partition("-")
        mutants = [mutant for mutant in mutants if int(first) <= mutant.line <= int(last or first)]
    random.Random(options.seed).shuffle(mutants)

    tried: dict[str, list[int]] = {module: [0, 0] for module in modules}
    for mutant in mutants:
        if time.perf_counter() > ends_s:
            break
        survived = _try(mutant, trees[mutant.module], limits_s[mutant.module])
        tried[mutant.module][0] += 1
        tried[mutant.module][1] += not survived
        if survived:
            print(f"survived: domain/ledger/{mutant.module}.py:{mutant.line}: {mutant.what}", flush=True)
    return _report(tried, len(mutants), options.least)


def _try(mutant: Mutant, tree: ast.Module, limit_s: float) -> bool:
    """Whether it survives. It is made in a child, so that the tree stays as it is for the next."""
    pid = os.fork()
    if pid == 0:
        mutant.apply()
        survived, _ = run_tests(mutant.module, _compile(tree), TESTS[mutant.module], limit_s)
        os._exit(int(survived))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def _compile(tree: ast.Module) -> CodeType:
    return compile(ast.fix_missing_locations(tree), "<mutant>", "exec")


def _report(tried: dict[str, list[int]], known: int, least: float) -> int:
    for module, (count, killed) in tried.items():
        print(f"{module:12} {killed:4} of {count:4} killed  {killed / max(1, count):6.1%}")
    count, killed = (sum(column) for column in zip(*tried.values(), strict=True))
    score = killed / max(1, count)
    print(f"{'all':12} {killed:4} of {count:4} killed  {score:6.1%}   ({known} known)")
    return int(score < least)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
