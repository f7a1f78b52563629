"""Passages of the 103 real Wikipedia articles (CC BY-SA) that the package `gensim` ships."""

import bz2
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from mmalign.api import ConfigError

__all__ = ["gensim_articles"]

_FILE = "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
_LEAST_CHARACTERS = 200
_LEFT_OVER = re.compile(r"'{2,}|={2,}[^=\n]*={2,}|^[*:;#]+", re.MULTILINE)


def gensim_articles() -> Iterator[dict[str, str]]:
    """{id, title, text} of every paragraph of 200 characters or more.

    Raises:
        ConfigError: The package is not installed.
    """
    spec = importlib.util.find_spec("gensim")
    if spec is None or spec.origin is None:
        raise ConfigError("the articles come with the package gensim; install it")
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with bz2.open(Path(spec.origin).parent / _FILE) as file:
        for title, text, page in extract_pages(file, filter_namespaces=("0",)):
            if text.lstrip().upper().startswith("#REDIRECT"):
                continue
            paragraphs = _LEFT_OVER.sub("", filter_wiki(text)).split("\n")
            kept = [" ".join(p.split()) for p in paragraphs if len(p) >= _LEAST_CHARACTERS]
            for place, paragraph in enumerate(kept):
                yield {"id": f"{page}-{place}", "title": title, "text": paragraph}
