"""Whether a test that a model wrote can fail at all because of the function it is to test.

Read from the text alone, nothing is run. What is assigned anywhere is taken to hold everywhere,
so that some empty tests pass for tests; the judge sees the rest of them, which never call.
"""

import ast
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

__all__ = ["TestProblem", "test_problem"]

TestProblem = Literal["syntax_error", "no_assert", "no_call"]
"""Reason codes of dropped tests."""

_CATCHES_ASSERT = ("AssertionError", "Exception", "BaseException")
_ASK_ABOUT = ("callable", "hasattr", "id", "isinstance", "print", "repr", "str", "type")
"""Given the function, they say something of it but do not call it."""
_ENDS_BLOCK = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_ALWAYS_TRUE = (ast.Lambda, ast.GeneratorExp)


class _Statement(NamedTuple):
    node: ast.stmt
    swallowed: bool
    """A failing assert here would not end the test."""
    expects_raise: bool
    """Stands in a `try` whose body calls the function."""


def test_problem(source: str, entry_point: str) -> TestProblem | None:
    """Why `source` is no test of `entry_point`; None where it is one.

    A test is a live assert whose truth depends on a call of the function and whose failure nobody
    catches. Also one: `assert False` behind a call that is to raise.

    Args:
        source: Python, not to be trusted.
        entry_point: Name of the function; a test that defines it itself does not test it.
    """
    try:
        return _problem(ast.parse(source), entry_point)
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last: of endless sums
        return "syntax_error"


def _problem(tree: ast.Module, entry_point: str) -> TestProblem | None:
    reach = _Reach(tree, entry_point)
    live = [statement for statement in reach.live(tree.body) if not statement.swallowed]
    asserts = [statement for statement in live if isinstance(statement.node, ast.Assert)]
    if not asserts:
        return "no_assert"
    calls = any(reach.depends(part) for statement in live for part in _own_parts(statement.node))
    if entry_point in _bound(tree.body) or not calls:
        return "no_call"
    return None if any(reach.can_fail(statement) for statement in asserts) else "no_assert"


class _Reach:
    """Which names stand for the function, which for what it gave back, which code is run."""

    def __init__(self, tree: ast.Module, entry_point: str) -> None:
        self._functions = {entry_point}
        self._values: set[str] = set()
        self._called: set[str] = set()
        self._nodes = list(ast.walk(tree))
        self._defined = {
            node.name: node for node in self._nodes if isinstance(node, ast.FunctionDef)
        }
        mentioned = {node.id for node in self._nodes if isinstance(node, ast.Name)}
        for name, function in self._defined.items():
            if name not in mentioned and name.startswith(("test", "check")):
                self._called.add(name)
                self._functions |= {argument.arg for argument in function.args.args}
        self._spread(tree)

    def live(
        self, body: Sequence[ast.stmt], outer: _Statement | None = None
    ) -> Iterator[_Statement]:
        """Statements that can be reached, with what is around them."""
        swallowed = outer is not None and outer.swallowed
        expects = outer is not None and outer.expects_raise
        for node in body:
            statement = _Statement(node, swallowed, expects)
            yield statement
            for inner, inner_swallowed, inner_expects in self._blocks(node):
                around = _Statement(node, swallowed or inner_swallowed, expects or inner_expects)
                yield from self.live(inner, around)
            if isinstance(node, _ENDS_BLOCK):
                return

    def depends(self, expression: ast.AST) -> bool:
        """Whether it holds a call of the function or what such a call gave back."""
        return any(
            (isinstance(node, ast.Name) and node.id in self._values)
            or (
                isinstance(node, ast.Call)
                and any(self._is_function(part) for part in (node.func, *node.args))
                and not (isinstance(node.func, ast.Name) and node.func.id in _ASK_ABOUT)
            )
            for node in ast.walk(expression)
        )

    def can_fail(self, statement: _Statement) -> bool:
        """Whether the function decides if this assert holds."""
        assert isinstance(statement.node, ast.Assert)
        condition = statement.node.test
        if _truth(condition) is False:
            return statement.expects_raise
        return _truth(condition) is None and self.depends(condition)

    def _blocks(self, node: ast.stmt) -> Iterator[tuple[Sequence[ast.stmt], bool, bool]]:
        """Blocks inside, whether they swallow a failing assert, whether a raise is expected."""
        match node:
            case ast.If(test=condition) | ast.While(test=condition):
                if _truth(condition) is not False:
                    yield node.body, False, False
                if _truth(condition) is not True:
                    yield node.orelse, False, False
            case ast.For():
                if _truth(node.iter) is not False:
                    yield node.body, False, False
                yield node.orelse, False, False
            case ast.Try() | ast.TryStar():
                expects = any(self.depends(inner) for inner in node.body)
                yield node.body, any(map(_swallows, node.handlers)), expects
                for handler in node.handlers:
                    yield handler.body, False, expects
                yield node.orelse, False, expects
                yield node.finalbody, False, False
            case ast.With():
                yield node.body, any(_suppresses(item) for item in node.items), False
            case ast.Match():
                for case in node.cases:
                    yield case.body, False, False
            case ast.FunctionDef() if node.name in self._called:
                yield node.body, False, False

    def _spread(self, tree: ast.Module) -> None:
        """Follow assignments, returns and arguments until nothing new is found."""
        size = -1
        while size != (size := len(self._functions) + len(self._values) + len(self._called)):
            for target, value in _assignments(self._nodes):
                self._assign({target}, value)
            for node in self._nodes:
                if isinstance(node, ast.Call):
                    self._pass_arguments(node)
            for name, function in self._defined.items():
                returns = (node for node in ast.walk(function) if isinstance(node, ast.Return))
                if any(node.value and self.depends(node.value) for node in returns):
                    self._functions.add(name)
            for statement in self.live(tree.body):
                if statement.expects_raise:  # raised = True, in a handler
                    self._values |= {name for name, _ in _assignments([statement.node])}
                if not statement.swallowed:
                    parts = [n for part in _own_parts(statement.node) for n in ast.walk(part)]
                    self._called |= {part.id for part in parts if isinstance(part, ast.Name)}

    def _assign(self, targets: set[str], value: ast.AST) -> None:
        if self._is_function(value):
            self._functions |= targets
        elif self.depends(value):
            self._values |= targets

    def _pass_arguments(self, call: ast.Call) -> None:
        for value in (*call.args, *(keyword.value for keyword in call.keywords)):
            match call.func:
                case ast.Name(id=name) if name in self._defined:
                    arguments = self._defined[name].args
                    self._assign({argument.arg for argument in arguments.args}, value)
                case ast.Name(id=name) if name in self._functions and isinstance(value, ast.Name):
                    self._values.add(value.id)  # it may change its argument in place
                case ast.Attribute(value=ast.Name(id=holder)) if self.depends(value):
                    self._values.add(holder)  # results.append(f(x))

    def _is_function(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id in self._functions


def _assignments(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Each name that is bound, with the expression that it is bound to."""
    for node in nodes:
        match node:
            case ast.Assign(targets=targets, value=value):
                pairs = [(target, value) for target in targets]
            case (
                ast.AugAssign(target=target, value=value)
                | ast.NamedExpr(target=target, value=value)
            ):
                pairs = [(target, value)]
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                pairs = [(target, value)]
            case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                pairs = [(target, value)]
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                pairs = [(target, value)]
            case _:
                continue
        for target, value in pairs:
            for name in ast.walk(target):
                if isinstance(name, ast.Name):
                    yield name.id, value


def _bound(body: Sequence[ast.stmt]) -> set[str]:
    """Names that the module itself binds: what it tests there is its own."""
    names = {target for target, _ in _assignments([inner for n in body for inner in ast.walk(n)])}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return names


def _own_parts(node: ast.stmt) -> Iterator[ast.AST]:
    """Expressions of a statement without those of the blocks inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield child


def _swallows(handler: ast.ExceptHandler) -> bool:
    """Whether a failing assert ends here and nothing else is raised instead."""
    inner = [part for statement in handler.body for part in ast.walk(statement)]
    if any(isinstance(part, ast.Raise | ast.Assert) for part in inner):
        return False
    return handler.type is None or _names_assertion(handler.type)


def _suppresses(item: ast.withitem) -> bool:
    call = item.context_expr
    if not isinstance(call, ast.Call) or "suppress" not in ast.unparse(call.func):
        return False
    return any(_names_assertion(argument) for argument in call.args)


def _names_assertion(expression: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id in _CATCHES_ASSERT for node in ast.walk(expression)
    )


def _truth(expression: ast.expr) -> bool | None:
    """What the text alone says about its truth; None where it must be run."""
    match expression:
        case ast.Constant(value=value):
            return bool(value)
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            return bool(items)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            truth = _truth(operand)
            return None if truth is None else not truth
        case ast.BoolOp(op=op, values=values):
            decides = isinstance(op, ast.Or)
            truths = [_truth(value) for value in values]
            if decides in truths:
                return decides
            return None if None in truths else not decides
        case ast.Compare(left=ast.Name(id="__name__")):
            return False  # tests are run as a module
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            return True if ast.dump(left) == ast.dump(right) else None
    return True if isinstance(expression, _ALWAYS_TRUE) else None
