"""Search a corpus by BM25; the documents are what a recipe names."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from langchain_core.tools import BaseTool, StructuredTool

from mmalign.api import ConfigError, ToolError, cache_folder, import_plugin

__all__ = ["Document", "Index", "read_corpus", "search"]


class Document(NamedTuple):
    """One entry of a corpus."""

    id: str
    title: str
    text: str


class Index:
    """Documents by BM25; the index is kept on disk under the hash of what the documents say.

    Args:
        documents: The corpus.

    Raises:
        ConfigError: There are none.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        import bm25s

        if not documents:
            raise ConfigError("the corpus holds no documents; give it some")
        self._documents = documents
        folder = cache_folder("search") / _hash(documents)
        if not folder.is_dir():
            built = bm25s.BM25()
            built.index(_tokens([f"{d.title} {d.text}" for d in documents]), show_progress=False)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder.parent) as unfinished:
                built.save(unfinished, show_progress=False)
                if not folder.is_dir():
                    shutil.copytree(unfinished, folder, dirs_exist_ok=True)
        self._found = bm25s.BM25.load(folder)

    def search(self, query: str, num_documents: int) -> list[Document]:
        """The documents that hold words of the query, the best first."""
        words = _tokens([query], as_ids=False)
        if not words[0]:
            return []
        wanted = min(num_documents, len(self._documents))
        places, scores = self._found.retrieve(words, k=wanted, show_progress=False)
        return [
            self._documents[int(place)]
            for place, score in zip(places[0], scores[0], strict=True)
            if score > 0
        ]


def search(corpus: str, num_documents: int = 3) -> BaseTool:
    """A LangChain tool `search(query)`.

    Args:
        corpus: JSON lines of {id, title, text}, or `package.module:function` that yields such.
        num_documents: Most that are shown. Source: Search-R1 shows three.

    Raises:
        ConfigError: The corpus cannot be read.
    """
    index = Index(read_corpus(corpus))

    def find(query: str) -> str:
        """Search the corpus for documents about something.

        Args:
            query: A few words or a question.
        """
        if not query.strip():
            raise ToolError("the query is empty")
        found = index.search(query, num_documents)
        lines = [f"Doc {k}(Title: {d.title}) {d.text}" for k, d in enumerate(found, start=1)]
        return "\n".join(lines) or "Nothing was found."

    return StructuredTool.from_function(find, name="search", parse_docstring=True)


def read_corpus(corpus: str) -> list[Document]:
    """The documents of a file, or of a function.

    Raises:
        ConfigError: The file is not there, or a document lacks a field.
        PluginError: There is no such function.
    """
    if ":" in corpus and not Path(corpus).exists():
        build: Callable[[], Iterable[Mapping[str, Any]]] = import_plugin(corpus)
        return [_document(item, f"{corpus}: document {k}") for k, item in enumerate(build())]
    try:
        with Path(corpus).open(encoding="utf-8") as lines:
            return [_document(*item) for item in _rows(corpus, lines)]
    except OSError as error:
        raise ConfigError(f"corpus {corpus!r} cannot be read: {error}") from error


def _rows(corpus: str, lines: Iterable[str]) -> Iterator[tuple[Any, str]]:
    for number, line in enumerate(lines, start=1):
        where = f"{corpus}:{number}"
        try:
            yield json.loads(line), where
        except ValueError as error:
            raise ConfigError(f"{where}: no JSON: {error}") from error


def _document(item: Any, where: str) -> Document:
    try:
        return Document(str(item["id"]), str(item["title"]), str(item["text"]))
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{where}: a document has id, title and text; found {str(item)[:60]}"
        ) from error


def _tokens(texts: Sequence[str], *, as_ids: bool = True) -> Any:
    import bm25s

    # one-letter words and digits count: a corpus of names and years is searched by them
    return bm25s.tokenize(
        list(texts),
        token_pattern=r"(?u)\b\w+\b",  # noqa: S106  # a pattern, no password
        stopwords="en",
        return_ids=as_ids,
        show_progress=False,
    )


def _hash(documents: Sequence[Document]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for document in documents:
        digest.update(json.dumps(document).encode())
    return digest.hexdigest()
