"""Breaks the library in small ways and counts how many the tests notice: `python -m devtools.mutate`.

A mutant is one small change of one module: an operator, a comparison, a condition, a number, a returned value. It is
killed when a test fails, or takes far too long, and survives when all pass. Each one runs in a process of its own with
the tests that pass through the changed line, quick ones first. A change inside of a function is first put into the
loaded library; what survives there, and every other change, runs with the library imported anew. Verdicts are kept in
output/mutation.json, so that `--again` runs only what survived; docs/mutation.md holds the table and the survivors.
"""

import argparse
import ast
import copy
import gc
import importlib
import json
import math
import os
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from types import CodeType, FunctionType

from devtools.host import ROOT

VERDICTS = ROOT / "output" / "mutation.json"
BASELINE = ROOT / "output" / "mutation-baseline.json"
LOG = ROOT / "output" / "mutation.log"  # of a process that could not do its work
PAGE = ROOT / "docs" / "mutation.md"
CORE = ROOT / "guidance_core"
MODULES = [
    *sorted(f"cfg/{path.name}" for path in (CORE / "cfg").glob("*.py")),
    *("classifier/clean.py", "classifier/copies.py", "terms/clean_guidance.py", "terms/judged.py"),
    *("terms/gradient.py", "terms/label_names.py", "terms/target_text.py", "terms/targets.py"),
    *("paths.py", "run.py", "scale.py", "shapes.py", "tensors.py"),
]
TESTS = {  # by the beginning of a module's name: the tests that are about it, quick ones alone
    "cfg/": ("docs", "readme", "params", "cfg", "cfg_corners", "cfg_papers", "cfg_stacks", "runs"),
    "classifier/": ("clean",),
    "terms/clean_guidance.py": ("clean", "terms"),
    "terms/judged.py": ("clean", "terms", "gradient"),
    "terms/gradient.py": ("gradient", "mistakes"),
    "terms/label_names.py": ("targets",),
    "terms/target": ("targets", "mistakes"),
    "paths.py": ("paths", "sampling"),
    "run.py": ("runs", "scale"),
    "scale.py": ("params", "scale", "runs", "mistakes"),
    "shapes.py": ("params", "scale"),
    "tensors.py": ("tensors", "mistakes"),
}
PRELOADED = ("torch", "numpy", "scipy.interpolate", "safetensors.torch", "hypothesis", "pytest", "sklearn.datasets")
SLOW, LEAST = 8, 10  # a mutant hangs when its tests take this many times as long as without it, and these seconds
BROKEN = 70  # exit status of a process that could not do its work
NOT_SAID = "to be looked at"

SWAPPED = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
}
OPPOSITE = {"min": "max", "max": "min", "any": "all", "all": "any", "cos": "sin", "sin": "cos"}


@dataclass(frozen=True)
class Mutant:
    """One change, by `apply`, of the tree it was found in."""

    module: str
    tree: ast.Module
    lines: range  # of the statement it is in
    function: str  # the outermost one it is in; "" for what runs at import
    key: str  # module and change, without the line, so that it stays the same when other lines change
    apply: Callable[[], None]


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node: each one a small change of what it does."""
    changed = copy.copy(node)
    match node:
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign():
            changed.op = SWAPPED[type(node.op)]()
            yield changed
        case ast.Compare():
            for i, op in enumerate(node.ops):
                changed = copy.copy(node)
                changed.ops = [*node.ops[:i], SWAPPED[type(op)](), *node.ops[i + 1 :]]
                yield changed
        case ast.UnaryOp():
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
        case ast.IfExp() | ast.If():
            changed.test = ast.UnaryOp(ast.Not(), node.test)
            yield changed
        case ast.comprehension(ifs=[test]):
            changed.ifs = [ast.UnaryOp(ast.Not(), test)]
            yield changed
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant) or node.value.value is not None:
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Name() if node.id in OPPOSITE:
            yield ast.Name(OPPOSITE[node.id], node.ctx)
        case ast.Attribute() if node.attr in OPPOSITE:
            yield ast.Attribute(node.value, OPPOSITE[node.attr], node.ctx)
        case ast.keyword() if node.arg in OPPOSITE:
            yield ast.keyword(OPPOSITE[node.arg], node.value)


def places(node: ast.AST, inside: str = "") -> Iterator[tuple[ast.AST, Callable[[ast.AST], None], str]]:
    """Every node below one, with the function that puts another in its place, and the outermost function it is in.

    Not in annotations, decorators and f-strings, which compute nothing.
    """
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        within = inside
        if field == "body" and isinstance(node, ast.ClassDef | ast.FunctionDef) and not inside.endswith("()"):
            within = inside + node.name + ("." if isinstance(node, ast.ClassDef) else "()")
        items = value if isinstance(value, list) else [value]
        for i, item in enumerate(items):
            if isinstance(item, ast.AST) and not isinstance(item, ast.JoinedStr):
                put = (items.__setitem__, i) if items is value else (setattr, node, field)
                yield item, lambda new, put=put: put[0](*put[1:], new), within
                yield from places(item, within)


def mutants_of(module: str) -> list[Mutant]:
    """Every mutant of a module."""
    tree = ast.parse((CORE / module).read_text(encoding="utf-8"))
    found: dict[str, Mutant] = {}
    lines = range(1)
    for node, put, within in places(tree):
        if isinstance(node, ast.stmt):  # of a statement with a body, its head
            below = getattr(node, "body", None)
            lines = range(node.lineno, below[0].lineno if below else node.end_lineno + 1)
        for new in replacements(node):
            change = f"{module}: {brief(node)} -> {brief(new)}"
            key = next(k for n in range(len(found) + 1) if (k := change + f" #{n + 1}" * (n > 0)) not in found)
            function = within.removesuffix("()") if within.endswith("()") else ""
            found[key] = Mutant(module, tree, lines, function, key, lambda put=put, new=new: put(new))
    return list(found.values())


def brief(node: ast.AST) -> str:
    """A node as source: of a statement its first line."""
    return ast.unparse(node).strip().partition("\n")[0]


def module_name(module: str) -> str:
    """The name by which a file of the library is imported."""
    file = CORE / module
    return ".".join((file.parent if file.name == "__init__.py" else file.with_suffix("")).relative_to(ROOT).parts)


def changed_code(mutant: Mutant) -> CodeType:
    """The code of the mutant's module. The tree is changed for good: to be called in a process of its own."""
    mutant.apply()
    return compile(ast.fix_missing_locations(mutant.tree), str(CORE / mutant.module), "exec")


class Finder(SourceFileLoader):
    """Finds and loads the one changed module, before Python's own finders do."""

    def __init__(self, mutant: Mutant):
        super().__init__(module_name(mutant.module), str(CORE / mutant.module))
        self.code = changed_code(mutant)

    def find_spec(self, name, path=None, target=None):
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname):
        return self.code


def loaded_functions() -> dict[tuple[str, str], list[FunctionType]]:
    """The library's loaded functions by module and qualified name."""
    found: dict[tuple[str, str], list[FunctionType]] = {}
    for function in gc.get_objects():
        if type(function) is FunctionType and str(function.__module__).startswith(CORE.name):
            found.setdefault((function.__module__, function.__qualname__), []).append(function)
    return found


def put_into_loaded(mutant: Mutant, functions: dict[tuple[str, str], list[FunctionType]]) -> None:
    """Give the loaded function that the mutant is in its changed code, where Python can."""
    code = changed_code(mutant)
    for name in mutant.function.split("."):
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
    for function in functions[module_name(mutant.module), mutant.function]:
        if len(function.__code__.co_freevars) == len(code.co_freevars):  # none are left when the last super() is gone
            function.__code__ = code


def forked(work: Callable[[], int], seconds: float = 0) -> int:
    """The id of a process that does the work silently and exits with its result; `seconds` of the CPU end it."""
    child = os.fork()
    if child:
        return child
    status = BROKEN
    try:
        if seconds:
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds)))
            signal.alarm(math.ceil(60 * seconds))  # for one that waits and takes no time of the CPU
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(silence, stream)
        status = work()
    except BaseException:
        LOG.write_text(traceback.format_exc())
        raise
    finally:
        os._exit(status)


def pytest_run(files: list[str], plugin: object) -> int:
    """Pytest's exit status. Hypothesis draws the same each time and does not simplify."""
    from hypothesis import Phase, settings
    from pytest import main

    quick = settings(database=None, derandomize=True, deadline=None, phases=(Phase.explicit, Phase.generate))
    settings.register_profile("mutation", quick)
    settings.load_profile("mutation")
    return int(main(["-s", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", *files], plugins=[plugin]))


class Baseline:
    """A pytest plugin: how long each test takes, and which tests pass through each line."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        self.passed: dict[str, dict[int, list[str]]] = {}

    def pytest_runtestloop(self, session):
        from coverage import Coverage

        self.coverage = Coverage(data_file=None, config_file=False, include=[str(CORE / m) for m in MODULES])
        self.coverage.start()
        run_items(session.items)
        self.coverage.stop()
        data = self.coverage.get_data()
        self.passed = {module: data.contexts_by_lineno(str(CORE / module)) for module in MODULES}
        for test in self.failed:
            del self.seconds[test]
        BASELINE.write_text(json.dumps({n: getattr(self, n) for n in ("seconds", "passed")}))
        return True

    def pytest_runtest_logstart(self, nodeid):
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if report.failed:
            self.failed.add(report.nodeid)


class Chosen:
    """A pytest plugin that runs only the chosen tests, in the given order, up to the first failure."""

    def __init__(self, tests: list[str]):
        self.tests = tests

    def pytest_runtestloop(self, session):
        run_chosen(session, self.tests)
        return True


class Loaded:
    """A pytest plugin that runs, once all tests are collected, each mutant in a process forked from this one."""

    def __init__(self, mutants: list[Mutant], baseline: dict, jobs: int):
        self.mutants, self.baseline, self.jobs = mutants, baseline, jobs

    def pytest_runtestloop(self, session):
        functions = loaded_functions()
        gc.freeze()

        def work(mutant: Mutant, tests: list[str]) -> int:
            put_into_loaded(mutant, functions)
            return run_chosen(session, tests)

        for mutant, verdict in verdicts_of(self.mutants, self.baseline, self.jobs, work):
            keep({mutant.key: verdict})
        return True


def run_items(items: list, until: Callable[[], bool] = lambda: False) -> None:
    """Run collected tests, to the end or until something has happened."""
    for item, after in zip(items, [*items[1:], None], strict=False):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if until():
            return


def run_chosen(session, tests: list[str]) -> int:
    """Run these of the collected tests up to the first failure: how many failed."""
    items = {item.nodeid: item for item in session.items}
    run_items([items[test] for test in tests if test in items], lambda: session.testsfailed > 0)
    return session.testsfailed


def test_files(module: str) -> tuple[str, ...]:
    """The files of the tests that are about a module."""
    names = next(names for start, names in TESTS.items() if module.startswith(start))
    return tuple(f"tests/core/test_{name}.py" for name in names)


def tests_for(mutant: Mutant, baseline: dict) -> list[str]:
    """The tests that pass through the changed line, quick ones first; for what runs at import, all of the module's."""
    by_line = baseline["passed"][mutant.module]
    tests = {test for line in mutant.lines for test in by_line.get(str(line), ())} & baseline["seconds"].keys()
    return sorted(tests or baseline["seconds"], key=lambda test: baseline["seconds"][test])


def verdicts_of(
    mutants: list[Mutant], baseline: dict, jobs: int, work: Callable[[Mutant, list[str]], int]
) -> Iterator[tuple[Mutant, str]]:
    """Run the work of each mutant in a process of its own, some at a time; yield each with its verdict."""
    waiting, running = mutants[::-1], {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            tests = tests_for(mutant, baseline)
            seconds = max(LEAST, SLOW * sum(baseline["seconds"][test] for test in tests))
            running[forked(lambda mutant=mutant, tests=tests: work(mutant, tests), seconds)] = mutant
        child, status = os.wait()
        mutant, code = running.pop(child), os.waitstatus_to_exitcode(status)
        if code == BROKEN:
            raise RuntimeError(f"This mutant could not be run: {mutant.key}")
        yield mutant, "hung" if code < 0 else "killed" if code else "survived"


def imported_anew(mutant: Mutant, tests: list[str]) -> int:
    """0 when every test passes with the mutant, in a process that has not yet imported the library."""
    sys.meta_path.insert(0, Finder(mutant))
    files = [file for file in test_files(mutant.module) if any(test.startswith(file) for test in tests)]
    return next((status for file in files if (status := pytest_run([file], Chosen(tests)))), 0)


def keep(new: dict[str, str]) -> dict[str, str]:
    """All verdicts so far, with new ones."""
    verdicts = (json.loads(VERDICTS.read_text()) if VERDICTS.is_file() else {}) | new
    VERDICTS.write_text(json.dumps(verdicts, indent=0))
    return verdicts


def table(found: dict[str, list[Mutant]], verdicts: dict[str, str]) -> str:
    """A row for each module: mutants, how many were killed, and the share."""
    lines = ["| module | mutants | killed | share |", "|---|---|---|---|"]
    counts = [(f"`{m}`", len(ms), sum(verdicts[x.key] != "survived" for x in ms)) for m, ms in found.items()]
    counts.append(("all", sum(n for _, n, _ in counts), sum(k for _, _, k in counts)))
    return "\n".join([*lines, *(f"| {name} | {n} | {killed} | {killed / n:.1%} |" for name, n, killed in counts)])


def survivors(found: dict[str, list[Mutant]], verdicts: dict[str, str], page: str) -> str:
    """The survivors, each with what the page already says of it."""
    said = dict(re.findall(r"^- `(.+)`: (.+)$", page, re.MULTILINE))
    keys = [m.key for mutants in found.values() for m in mutants if verdicts[m.key] == "survived"]
    return "\n".join(f"- `{key}`: {said.get(key, NOT_SAID)}" for key in keys)


def judge(mutants: list[Mutant], files: list[str], jobs: int) -> None:
    """Find the verdict of each mutant by the tests in these files, and print those that survive."""
    baseline = json.loads(BASELINE.read_text())
    keep({mutant.key: "survived" for mutant in mutants})
    in_functions = [mutant for mutant in mutants if mutant.function]
    if os.waitpid(forked(lambda: pytest_run(files, Loaded(in_functions, baseline, jobs))), 0)[1]:
        raise RuntimeError(f"The tests could not be run with mutants in the loaded library; see {LOG}.")
    verdicts = keep({})
    left = [mutant for mutant in mutants if verdicts[mutant.key] == "survived"]
    print(f"{len(mutants)} mutants; {len(left)} of them with the library imported anew", flush=True)
    for mutant, verdict in verdicts_of(left, baseline, jobs, imported_anew):
        keep({mutant.key: verdict})
        if verdict == "survived":
            print(f"line {mutant.lines.start}, {mutant.key}", flush=True)


def main() -> int:
    """Run the mutants, print the survivors and write the page. Returns 1 when a test fails without any mutant."""
    parser = argparse.ArgumentParser(prog="python -m devtools.mutate", description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=MODULES, help="of guidance_core, such as cfg/apg.py; else all")
    parser.add_argument("--again", action="store_true", help="only the mutants that survived last time")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    asked = parser.parse_args()
    os.chdir(ROOT)
    for name in PRELOADED:
        importlib.import_module(name)
    VERDICTS.parent.mkdir(exist_ok=True)
    found = {module: mutants_of(module) for module in MODULES}
    groups = {
        test_files(module): [m for m in asked.modules if test_files(m) == test_files(module)]
        for module in asked.modules
    }
    for files, modules in groups.items():
        if os.waitpid(forked(lambda files=files: pytest_run([*files], Baseline())), 0)[1]:
            print(f"A test fails without any mutant, in one of {', '.join(files)}: mend it first.")
            return 1
        verdicts = keep({})
        mutants = [m for module in modules for m in found[module]]
        if asked.again:
            mutants = [m for m in mutants if verdicts.get(m.key, "survived") == "survived"]
        judge(mutants, [*files], asked.jobs)
    from devtools.make_readme import replaced  # imports the library, which until here each process did anew

    verdicts = keep({})
    judged = {module: ms for module, ms in found.items() if all(m.key in verdicts for m in ms)}
    print(table(judged, verdicts))
    if missing := [module for module in found if module not in judged]:
        print(f"{PAGE.name} stays as it is: no verdicts yet on {', '.join(missing)}.")
        return 0
    made = f"Run of {date.today():%d %B %Y}:\n\n{table(found, verdicts)}"
    page = replaced(PAGE.read_text(encoding="utf-8"), "mutants", made)
    PAGE.write_text(replaced(page, "survivors", survivors(found, verdicts, page)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
