"""Search: what is found, how it is shown, what is kept on disk."""

import asyncio
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmalign.api import ConfigError, RolloutTool, invoke_tool
from mmalign.errors import PluginError
from mmalign.testing.packages import require_package
from mmalign.tools.search import Index, read_corpus, search

DOCUMENTS = [
    {"id": "1", "title": "Lisbon", "text": "The capital of Portugal lies on the Tagus."},
    {"id": "2", "title": "Porto", "text": "A town of Portugal on the Douro."},
    {"id": "3", "title": "Apollo 11", "text": "The first flight that put people on the Moon."},
]


def documents() -> Iterator[dict[str, str]]:
    yield from DOCUMENTS


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    require_package("bm25s")
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "search"


def corpus(folder: Path) -> str:
    path = folder / "docs.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in DOCUMENTS))
    return str(path)


def ask(tool: Any, query: str) -> str:
    return asyncio.run(invoke_tool({"s": RolloutTool(tool)}, "s", {"query": query})).text


def test_best_documents_come_first_in_search_r1s_form(tmp_path: Path) -> None:
    tool = search(corpus(tmp_path), num_documents=2)
    assert ask(tool, "capital of Portugal") == (
        "Doc 1(Title: Lisbon) The capital of Portugal lies on the Tagus.\n"
        "Doc 2(Title: Porto) A town of Portugal on the Douro."
    )
    assert ask(search(corpus(tmp_path), num_documents=9), "11").startswith(
        "Doc 1(Title: Apollo 11)"
    )
    assert ask(tool, "zebra") == ask(tool, "?!") == ask(tool, "the") == "Nothing was found."
    assert ask(tool, "  ") == "Error: the query is empty"


def test_index_is_kept_by_what_the_documents_say(tmp_path: Path, cache: Path) -> None:
    found = read_corpus(corpus(tmp_path))
    first = Index(found).search("Moon", 1)
    assert [d.title for d in first] == ["Apollo 11"]
    assert Index(found).search("Moon", 1) == first
    assert len(list(cache.iterdir())) == 1
    changed = [found[0]._replace(text="The Moon is not here."), *found[1:]]
    assert {d.title for d in Index(changed).search("Moon", 3)} == {"Lisbon", "Apollo 11"}
    assert len(list(cache.iterdir())) == 2


def test_corpus_of_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("corpus_of_a_test")
    module.__dict__["documents"] = documents
    monkeypatch.setitem(sys.modules, "corpus_of_a_test", module)
    found = read_corpus("corpus_of_a_test:documents")
    assert [document.id for document in found] == ["1", "2", "3"]


def test_bad_corpus_says_where(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"id": 1, "title": "a", "text": "b"}\n{"id": 2}\n')
    with pytest.raises(ConfigError, match=r"bad.jsonl:2: a document has id, title and text"):
        read_corpus(str(path))
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"bad.jsonl:1: no JSON"):
        read_corpus(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_corpus(str(tmp_path / "none.jsonl"))
    with pytest.raises(PluginError, match="cannot import"):
        read_corpus("no_such_module:documents")
    with pytest.raises(ConfigError, match="holds no documents"):
        Index([])


@pytest.mark.real
def test_wikipedia_answers() -> None:
    require_package("gensim")
    tool = search("mmalign.tools.wikipedia:gensim_articles")
    assert "Ayn Rand" in ask(tool, "who wrote Atlas Shrugged")
    assert ask(tool, "capital of Alabama").startswith("Doc 1(Title: Alabama)")
    articles = read_corpus("mmalign.tools.wikipedia:gensim_articles")
    assert len({document.title for document in articles}) > 90
    assert len({document.id for document in articles}) == len(articles) > 3000
    assert not any("[[" in d.text or "{{" in d.text or "'''" in d.text for d in articles)
