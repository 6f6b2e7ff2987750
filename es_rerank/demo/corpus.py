"""The demo's corpus: the documentation of Python's standard library, read from the running interpreter.

Owns which objects are documents and how they are named. Knows nothing of engines or questions. It imports most of
the standard library, so read the corpus once, in the demo's own process.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import pkgutil
import re
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

Kind = Literal["module", "class", "function", "method"]

# Also skipped as a part of a longer name, as in ctypes.test.
SKIPPED_MODULES = frozenset(
    {
        # Their import does something: it opens a browser, prints, or changes the terminal or the completer.
        "antigravity", "readline", "rlcompleter", "this",
        # They open windows. How Python was built decides whether they exist, and that would change every BM25 score.
        "idlelib", "tkinter", "turtle", "turtledemo",
        # Tools and tests of Python itself, or gone in a later version, or replaced by setuptools.
        "distutils", "ensurepip", "lib2to3", "pydoc_data", "test",
        # Internal parts of public modules: of os and os.path by platform, of codecs, re, dis and xml.parsers.expat.
        "encodings", "genericpath", "nt", "ntpath", "nturl2path", "opcode", "posix", "posixpath", "pyexpat",
        "sre_compile", "sre_constants", "sre_parse",
    }
)  # fmt: skip
WORD_BOUNDARY = re.compile(r"[._]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One docstring.

    `id` and `name` are both the dotted name as code writes it (`csv.DictReader`; builtins without their module:
    `open`, `str.split`); `words` is that name as words (`csv dict reader`), without which no search finds it.
    """

    id: str
    name: str
    words: str
    kind: Kind
    text: str


def read_documents() -> list[Document]:
    """Read the public modules, classes, functions and methods that have a docstring of their own, in a second.

    A class without a docstring has its constructor's. Of several names with exactly the same text one stays: the one
    with the fewest parts, then the shortest, then the first in the alphabet. So `asyncio.run` stays, and
    `asyncio.runners.run` is dropped. The list is sorted by name, and the same interpreter gives the same list. Prints
    nothing. A module that cannot be imported on this platform is left out.
    """
    by_name: dict[str, Document] = {}
    by_text: dict[str, Document] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated modules say so when imported
        for document in _walk():
            by_name.setdefault(document.name, document)  # the class unittest.main, not the module it hides
    for name in sorted(by_name, key=lambda name: (name.count("."), len(name), name)):
        by_text.setdefault(by_name[name].text, by_name[name])
    return sorted(by_text.values(), key=lambda document: document.name)


def split_name(name: str) -> str:
    """The words of a dotted, underscored or camel-case name, in lower case: `csv.DictReader` has three."""
    return " ".join(WORD_BOUNDARY.sub(" ", name).lower().split())


def _walk() -> Iterator[Document]:
    for name, module in _modules():
        yield from _document(name, "module", module)
        yield from _members(name, module)


def _modules() -> Iterator[tuple[str, ModuleType]]:
    waiting = sorted(sys.stdlib_module_names)
    while waiting:
        name = waiting.pop()
        if any(part.startswith("_") or part in SKIPPED_MODULES for part in name.split(".")):
            continue
        try:
            module = importlib.import_module(name)
        except ImportError:  # of another platform, or not built in
            continue
        yield name, module
        waiting.extend(f"{name}.{found.name}" for found in pkgutil.iter_modules(getattr(module, "__path__", ())))
        if name == "os":
            waiting.append("os.path")  # the one public module that is not a file of its package


def _members(module_name: str, module: ModuleType) -> Iterator[Document]:
    for name in _public_names(module):
        member = getattr(module, name, None)
        full_name = name if module is builtins else f"{module_name}.{name}"
        if inspect.isclass(member):
            yield from _document(full_name, "class", member)
            yield from _methods(full_name, member)
        elif inspect.isroutine(member):
            yield from _document(full_name, "function", member)


def _public_names(module: ModuleType) -> list[str]:
    if hasattr(module, "__all__"):
        names = list(module.__all__)
    elif module is builtins:
        names = list(vars(module))
    else:
        # Imported names look as if they were defined here. Only the library that they name shows the difference.
        names = [name for name, member in vars(module).items() if _library(member) == _library(module)]
    return [name for name in names if not name.startswith("_")]


def _library(described: object) -> str:
    """The top module of an object without its underscore, since _sqlite3 defines what sqlite3 offers."""
    home = described.__name__ if inspect.ismodule(described) else getattr(described, "__module__", "")
    return str(home).split(".", maxsplit=1)[0].removeprefix("_")


def _methods(class_name: str, owner: type) -> Iterator[Document]:
    for name, member in vars(owner).items():
        if not name.startswith("_") and inspect.isroutine(member):
            yield from _document(f"{class_name}.{name}", "method", member)


def _document(name: str, kind: Kind, described: object) -> Iterator[Document]:
    docstring = described.__doc__
    if docstring is None and kind == "class":
        docstring = vars(described)["__init__"].__doc__ if "__init__" in vars(described) else None
    text = inspect.cleandoc(docstring) if isinstance(docstring, str) else ""
    if text:
        yield Document(id=name, name=name, words=split_name(name), kind=kind, text=text)
